//! Dispatches to the command; the library does the work.

use std::process::ExitCode;

use callvault::cli;

/// Takes memory that one thread gave to another faster than the system's allocator, and gives it back after a burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
