//! `mvm image verify`: whether an appliance or an image is what it says.

use std::path::PathBuf;

use images::rebuild::Difference;
use images::signature::Keys;
use images::{Source, Store, verify};

use super::definition;
use crate::cli::appliance::{self, Order};
use crate::cli::output::{print, print_line};
use crate::cli::{Context, Failure, progress};

/// Hold every part of an appliance or an image against its digest, and an appliance against the keys that are trusted
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// What `mvm image ls` calls it
    name: String,
    /// The public key that it has to be signed with [default: any that is trusted; none where none is]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make the appliance once more, and compare what a machine boots byte for byte
    #[arg(long)]
    rebuild: bool,
    /// The definition that it is made of again [default: the one that is kept with it]
    #[arg(value_name = "YML", requires = "rebuild")]
    files: Vec<String>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("the kernel of {0} is not the one that its definition makes here")]
    Kernel(String),
    #[error(
        "the command line of {name} is not the one that its definition makes here: it is {here}, and was made {made}"
    )]
    Cmdline { name: String, here: String, made: String },
    #[error(
        "the root of {name} is not the one that its definition makes here; the first file that differs is {path}: it {what}"
    )]
    File { name: String, path: String, what: &'static str },
    #[error(
        "the root of {0} is not the one that its definition makes here: its files are the same, and their owners, times or places in the image are not"
    )]
    Root(String),
    #[error("{0} is an image of a container, and only appliances are signed")]
    Unsigned(String),
    #[error("{0} is no appliance, and nothing that could be made again")]
    NotOne(String),
}

pub(super) async fn verify(context: Context, args: VerifyArgs) -> Result<(), Failure> {
    if args.rebuild {
        let source = of_what(&context, &args).await?;
        return tokio::task::spawn_blocking(move || {
            check(&context, &args)?;
            made_again(&context, source, &args.name)
        })
        .await?;
    }
    tokio::task::spawn_blocking(move || check(&context, &args)).await?
}

/// The definition that it is made of again.
async fn of_what(context: &Context, args: &VerifyArgs) -> Result<Source, Failure> {
    if !args.files.is_empty() {
        return Ok(definition::source(args.files.clone()).await?);
    }
    let store = Store::open(&appliance::directories(context).images())?;
    if store.find(&args.name)?.is_none() {
        return Err(VerifyError::NotOne(args.name.clone()).into());
    }
    Ok(store.source(&args.name)?)
}

fn made_again(context: &Context, source: Source, name: &str) -> Result<(), Failure> {
    let directories = appliance::directories(context);
    // One that was built without hashes is made again without them.
    let here = Store::open(&directories.images())?.find(name)?;
    let verified = here.is_none_or(|here| here.cmdline.contains("dm-mod.create="));
    let order = Order { verified, ..Order::of(source, name) };
    let found = order.rebuild(&directories, progress::to_stderr().as_ref())?;
    let name = name.to_owned();
    Err(match found {
        None => {
            eprintln!("made again, {name} is the same, byte for byte");
            return Ok(());
        }
        Some(Difference::Kernel) => VerifyError::Kernel(name),
        Some(Difference::Cmdline { here, made }) => VerifyError::Cmdline { name, here, made },
        Some(Difference::File { path, what }) => VerifyError::File { name, path, what },
        Some(Difference::Root) => VerifyError::Root(name),
    }
    .into())
}

fn check(context: &Context, args: &VerifyArgs) -> Result<(), Failure> {
    let layout = appliance::directories(context).images();
    let contents = verify::contents(&layout, &args.name)?;
    let keys = match &args.key {
        Some(file) => Keys::from_file(file)?,
        None => appliance::trusted(context)?,
    };
    let store = Store::open(&layout)?;
    let appliance = store.find(&args.name)?;
    if args.key.is_some() && appliance.is_none() {
        return Err(VerifyError::Unsigned(args.name.clone()).into());
    }
    let key = match appliance.as_ref().filter(|_| !keys.is_empty()) {
        Some(appliance) => Some(store.signed_by(&args.name, appliance, &keys)?),
        None => None,
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
    let signed = match (key, appliance.is_some()) {
        (Some(key), _) => format!("signed with {key}\n"),
        (None, true) => "no key is trusted: signatures were not looked at\n".to_owned(),
        (None, false) => String::new(),
    };
    print(format!(
        "{} {}\n{} contents, {size}: each is what its digest says\n{signed}",
        args.name, contents.digest, contents.count
    ))
}
