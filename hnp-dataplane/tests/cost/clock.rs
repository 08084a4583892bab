//! The clock that counts instructions.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The machine's clock, which was seen to go on by a nanosecond with each instruction, whoever executes it.
pub(crate) struct Clock(());

impl Clock {
    /// Has processes execute known numbers of instructions, and looks at the clock.
    ///
    /// # Panics
    /// When the clock goes by time, as it does almost everywhere.
    pub(crate) fn that_counts() -> Self {
        let clock = Self(());
        settle();
        // Where time is what is measured, the second takes several times the first.
        clock.assert_counts("no operations", &NOP);
        clock.assert_counts("multiplications", &MULTIPLY);
        clock
    }

    /// Each of so many instructions in a loop counts as one.
    fn assert_counts(&self, what: &str, instruction: &[u8]) {
        const FEW: u32 = 1_000_000;
        const MANY: u32 = 11_000_000;
        let expected = u64::from(MANY - FEW) * INSTRUCTIONS_A_ROUND;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("loop");
        let run = |rounds| {
            write_loop(&program, instruction, rounds);
            let (count, status) = self.count(|| Command::new(&program).status().unwrap());
            assert!(status.success(), "{status}");
            count
        };
        // What it takes to start a process is in both. What the kernel has to do besides is not in each of three.
        let [few, many] = [FEW, MANY].map(|rounds| (0..3).map(|_| run(rounds)).min().unwrap());
        let counted = many.saturating_sub(few);
        println!("{expected} instructions, mostly {what}, count as {counted}");
        assert!(
            counted.abs_diff(expected) <= expected / 100,
            "the clock does not count instructions: {expected}, mostly {what}, took it {counted} ns"
        );
    }

    /// How many instructions the machine executes while `work` is done.
    pub(crate) fn count<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let start = Instant::now();
        let done = work();
        let count = start.elapsed().as_nanos();
        (u64::try_from(count).unwrap(), done)
    }
}

/// Lets the kernel do what it has put off, such as removing what an earlier test has left. The processor is idle then, and the clock
/// of such a machine goes on at once to whatever is waited for.
pub(crate) fn settle() {
    thread::sleep(Duration::from_secs(1));
}

/// `nop`
const NOP: [u8; 1] = [0x90];
/// `imul eax, eax`, which waits for the one before it.
const MULTIPLY: [u8; 3] = [0x0f, 0xaf, 0xc0];

const INSTRUCTIONS_A_ROUND: u64 = 10;

/// A program of so many rounds, each of eight times the instruction and two that make the loop. No compiler has a say in it.
fn write_loop(path: &Path, instruction: &[u8], rounds: u32) {
    const ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let body = instruction.repeat(8);
    let back = -i8::try_from(body.len() + 4).unwrap();
    let mut code = vec![0xb9]; // mov ecx, rounds
    code.extend(rounds.to_le_bytes());
    code.extend(body);
    code.extend([0xff, 0xc9]); // dec ecx
    code.extend([0x75, back.to_le_bytes()[0]]); // jnz to the body
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend([0xb8, 60, 0, 0, 0]); // mov eax, SYS_exit
    code.extend([0x0f, 0x05]); // syscall
    let size = HEADERS + code.len() as u64;

    // The headers of ELF-64: System V gABI, "ELF Header" and "Program Header".
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    halves(&mut file, &[2, 62]); // an executable, x86-64
    words(&mut file, &[1]);
    longs(&mut file, &[ADDRESS + HEADERS, 64, 0]); // entry, program headers, no sections
    words(&mut file, &[0]);
    halves(&mut file, &[64, 56, 1, 64, 0, 0]);
    words(&mut file, &[1, 0b101]); // loaded, to be read and executed
    longs(&mut file, &[0, ADDRESS, ADDRESS, size, size, 0x1000]);
    file.extend(code);
    fs::write(path, file).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
