//! The binary `hnp`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hnp_dataplane::cli::main()
}
