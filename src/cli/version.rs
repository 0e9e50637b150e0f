//! `mvm version`.

use super::Failure;
use super::output::print_line;

/// Print the version
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        print_line(serde_json::json!({ "version": version }))?;
    } else {
        print_line(format_args!("mvm {version}"))?;
    }
    Ok(())
}
