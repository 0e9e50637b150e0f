//! `mvm`: boots the appliance and builds in it.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == mvm::machine::WORD) {
        return mvm::machine::main();
    }
    mvm::cli::main()
}
