//! `mvm image key` and `sign`: who vouches for an appliance.

use std::path::PathBuf;

use images::signature;

use crate::cli::output::print_line;
use crate::cli::{Context, Failure, appliance};

/// Make a key to sign appliances with: FILE, which is secret and has no password, and FILE.pub
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// Where the secret key goes; nothing is written over
    file: PathBuf,
}

/// Sign an appliance with a key of minisign's; a push sends the signature with it
#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// What `mvm image ls` calls it
    name: String,
    /// The secret key; its password is asked for, if it has one
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn key(args: &KeyArgs) -> Result<(), Failure> {
    let public = signature::make_key(&args.file)?;
    print_line(public.display())
}

pub(super) fn sign(context: &Context, args: &SignArgs) -> Result<(), Failure> {
    signature::sign(&appliance::directories(context), &args.name, &args.key)?;
    eprintln!("{} is signed", args.name);
    Ok(())
}
