//! `mvm`: boots the appliance and builds in it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(word) if word == mvm::machine::WORD => mvm::machine::main(),
        Some(word) if word == mvm::foreground::WORD => mvm::foreground::main(),
        _ => mvm::cli::main(),
    }
}
