//! Loads every eBPF program that is embedded in `hnp` and prints what the kernel's verifier made of it.
//!
//! `cargo xtask ebpf` runs this, with the right to.

use hnp_dataplane::redirect::Programs;

fn main() -> anyhow::Result<()> {
    let reports = Programs::load()?.reports()?;
    let or_unknown =
        |number: Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
    println!(
        "{:<16} {:<16} {:>10} {:>10} {:>12}",
        "program", "section", "translated", "verified", "machine code"
    );
    println!(
        "{:<16} {:<16} {:>10} {:>10} {:>12}",
        "", "", "insns", "insns", "bytes"
    );
    for report in reports {
        println!(
            "{:<16} {:<16} {:>10} {:>10} {:>12}",
            report.name,
            report.section,
            or_unknown(report.translated),
            or_unknown(report.verified),
            report.machine_code_bytes
        );
    }
    Ok(())
}
