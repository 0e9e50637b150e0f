//! `mvm image verify`: whether an appliance or an image is what it says.

use std::path::PathBuf;

use images::signature::Keys;
use images::{Store, verify};

use crate::cli::output::{print, print_line};
use crate::cli::{Context, Failure, appliance};

/// Hold every part of an appliance or an image against its digest, and an appliance against the keys that are trusted
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// What `mvm image ls` calls it
    name: String,
    /// The public key that it has to be signed with [default: any that is trusted; none where none is]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<(), Failure> {
    let layout = appliance::directories(context).images();
    let contents = verify::contents(&layout, &args.name)?;
    let keys = match &args.key {
        Some(file) => Keys::from_file(file)?,
        None => appliance::trusted(context)?,
    };
    let store = Store::open(&layout)?;
    let is_appliance = store.find(&args.name)?.is_some();
    let key = match is_appliance && !keys.is_empty() {
        true => Some(store.signed_by(&args.name, &keys)?),
        false => None,
    };
    if args.json {
        return print_line(serde_json::json!({
            "name": args.name,
            "digest": contents.digest,
            "contents": contents.count,
            "size": contents.size,
            "signed_by": key,
        }));
    }
    let size = indicatif::BinaryBytes(contents.size);
    let signed = match (key, is_appliance) {
        (Some(key), _) => format!("signed with {key}\n"),
        (None, true) => "no key is trusted: signatures were not looked at\n".to_owned(),
        (None, false) => String::new(),
    };
    print(format!(
        "{} {}\n{} contents, {size}: each is what its digest says\n{signed}",
        args.name, contents.digest, contents.count
    ))
}
