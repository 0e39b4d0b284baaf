//! Dispatches to the command; the library does the work.

use std::process::ExitCode;

use callvault::cli;

fn main() -> ExitCode {
    cli::main()
}
