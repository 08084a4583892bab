"""Plays a shell at a terminal: starts a program in the foreground, presses keys, and looks at what it does.

usage: terminal.py ACT WORD...    (the words that precede the command, `hnp exec`)
Prints `ok`, or fails with what was seen.
"""

import os
import pty
import signal
import sys

ACT, WORDS = sys.argv[1], sys.argv[2:]
# Less than whoever started this has, so that what was seen is told.
PATIENCE = 25 * int(os.environ.get("HNP_TEST_PATIENCE", "1"))


class Session:
    """A program that leads a session, with a terminal; a process group of its own, in the foreground."""

    def __init__(self, *command: str):
        signal.signal(signal.SIGALRM, self.give_up)
        signal.alarm(PATIENCE)
        self.seen, self.told = "", ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            usual_signals()
            os.execvp(WORDS[0], [*WORDS, *command])

    def give_up(self, *_) -> None:
        sys.exit(f"nothing more after {PATIENCE} s, and before it {self.told!r}, then {self.seen!r}")

    def expect(self, text: str) -> None:
        """Reads until the text has come; what comes after it is kept."""
        while text not in self.seen:
            try:
                got = os.read(self.terminal, 4096)
            except OSError:
                got = b""
            if not got:
                sys.exit(f"no {text!r} in {self.seen!r}")
            self.seen += got.decode()
        before, self.seen = self.seen.split(text, 1)
        self.told += before + text

    def press(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def ended(self) -> int:
        # A terminal whose output nobody reads blocks who writes to it.
        try:
            while got := os.read(self.terminal, 4096):
                self.seen += got.decode()
        except OSError:
            pass
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def usual_signals() -> None:
    """As at a login: whoever started the tests may ignore some."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def check(what: str, got, expected) -> None:
    if got != expected:
        sys.exit(f"{what}: {got!r}, expected {expected!r}")


def interrupt() -> None:
    """Ctrl-C is the command's to handle, and it gets it once."""
    script = (
        'n=0; trap "n=\\$((n+1)); echo trapped \\$n" INT; test -t 0 && test -t 1 && test -t 2 && echo a terminal; '
        'while read line; do echo "said $line"; test "$line" = end && exit $((n+3)); done; echo over; exit 2'
    )
    it = Session("-q", "bash", "-c", script)
    it.expect("a terminal")
    for trapped in ("trapped 1", "trapped 2"):
        it.press(b"\x03")
        # A signal that comes just before bash waits for a line does not end the wait: its trap comes after the line.
        it.press(b"go on\n")
        it.expect(trapped)
        # The trap is over: bash forgets a signal that comes while it runs the trap for one.
        it.expect("said go on")
    it.press(b"end\n")
    it.expect("said end")
    check("exit code", it.ended(), 5)


def stop() -> None:
    """Ctrl-Z stops both; SIGCONT to the group, as `fg` sends it, lets both go on."""
    # The leader of a session cannot be stopped by a key (its group is orphaned): a shell is between, as usual.
    it = Session.__new__(Session)
    it.seen, it.told = "", ""
    it.pid, it.terminal = pty.fork()
    if it.pid == 0:
        job_control()
    it.expect("first")
    it.press(b"\x1a")
    it.expect("stopped")
    it.expect("second")
    check("exit code", it.ended(), 0)


def job_control() -> None:
    """The shell's part, in a session of its own."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        usual_signals()
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(
            WORDS[0],
            [*WORDS, "-q", "sh", "-c", "trap 'echo second; kill $!; exit 4' CONT; sleep 1000 & echo first; wait; exit 3"],
        )
    _, status = os.waitpid(job, os.WUNTRACED)
    check("stopped", os.WIFSTOPPED(status), True)
    # What is in the job's group has stopped: hnp, its command, the command's child.
    states = [state for group, state in processes() if group == job]
    check("states", set(states), {"T"})
    print("stopped", flush=True)
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, os.WUNTRACED)
    check("exit code of the job", os.waitstatus_to_exitcode(status), 4)
    os._exit(0)


def processes():
    """Process group and state of every process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(") ", 1)[1].split(" ")
        except OSError:
            continue
        yield int(fields[2]), fields[0]


def shell() -> None:
    """An interactive shell takes the terminal for its jobs, and hnp keeps out of it."""
    it = Session("-q", "bash", "--norc", "--noediting", "-i")
    # What is expected is never what is typed, for the terminal shows that as well.
    it.press(b"PS1=go''on; echo be''gin; cat\n")
    # With the end of its line, which the terminal would otherwise mix with what is typed.
    it.expect("begin\r\n")
    it.press(b"to the cat\n")
    it.expect("to the cat\r\nto the cat\r\n")
    it.press(b"\x03")
    it.expect("goon")
    it.press(b"echo status $?\n")
    it.expect("status 130")
    it.press(b"exit 12\n")
    check("exit code", it.ended(), 12)


{"interrupt": interrupt, "stop": stop, "shell": shell}[ACT]()
print("ok")
