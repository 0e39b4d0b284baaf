//! Dispatches to the command; the library does the work.

use std::process::ExitCode;

use callvault::cli;

/// Gives memory back after a burst, and takes it faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
