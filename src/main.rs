//! The binary: everything is in the library; here is only the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(realmsync::cli::main())
}
