//! The binary: everything is in the library; here is only the allocator and the exit code.

use std::process::ExitCode;

/// 40 % of a pass is allocation of entries; this one halves it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(realmsync::cli::main())
}
