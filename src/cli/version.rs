//! `mvm version`.

use super::Failure;

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
        println!("{}", serde_json::json!({ "version": version }));
    } else {
        println!("mvm {version}");
    }
    Ok(())
}
