//! `mvm image pull` and `push`, and what a build needs before it can begin.

use images::progress::Progress;
use images::{Directories, Layout, Source, image, signature};

use crate::cli::Context;
use crate::cli::output::print_line;
use crate::cli::{Failure, appliance, progress};
use crate::registry::credentials::Credentials;
use crate::registry::{self, ImageRef, Mirror, Pull, PullError, Push};

/// Where images may be, besides their registries.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Mirrors {
    /// A host to ask before a registry, for one of docker.io where none is named (repeatable) [default: those that
    /// MVM_REGISTRY_MIRRORS lists, with commas]
    #[arg(long = "mirror", value_name = "[REGISTRY=]HOST[:PORT]")]
    mirrors: Vec<Mirror>,
}

impl Mirrors {
    /// Those of the arguments; without any, those of the environment, which may be empty.
    fn all(&self) -> Result<Vec<Mirror>, Failure> {
        if !self.mirrors.is_empty() {
            return Ok(self.mirrors.clone());
        }
        let listed = std::env::var("MVM_REGISTRY_MIRRORS").unwrap_or_default();
        let named = listed.split(',').filter(|mirror| !mirror.is_empty()).map(str::parse);
        named.collect::<Result<_, _>>().map_err(Failure::usage)
    }
}

/// Bring images from their registries into this machine's layout
#[derive(Debug, clap::Args)]
pub(super) struct PullArgs {
    /// Their names: [REGISTRY/]NAME[:TAG][@DIGEST]
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<ImageRef>,
    /// All platforms of an image, and not only that of this machine
    #[arg(long)]
    all_platforms: bool,
    #[command(flatten)]
    mirrors: Mirrors,
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

/// Send an appliance or an image to a registry
#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    /// What `mvm image ls` calls it
    name: String,
    /// What the registry is to call it: REGISTRY/NAME[:TAG] [default: the same]
    to: Option<ImageRef>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error("there is no {0}; `mvm image ls` shows what there is")]
    Unknown(String),
}

pub(super) async fn pull(context: &Context, args: PullArgs) -> Result<(), Failure> {
    let directories = appliance::directories(context);
    let progress = progress::to_stderr();
    let mut pulled = Vec::new();
    for image in &args.images {
        let kept = bring(&directories, image, &args.mirrors, args.all_platforms, progress.as_ref()).await?;
        pulled.push(kept);
    }
    if args.json {
        let rows: Vec<_> = pulled.iter().map(as_json).collect();
        return print_line(serde_json::to_string(&rows)?);
    }
    pulled.iter().try_for_each(|row| print_line(format_args!("{} {}", row.name, row.digest)))
}

pub(super) async fn push(context: &Context, args: PushArgs) -> Result<(), Failure> {
    let layout = Layout::open(&appliance::directories(context).images())?;
    let found = layout.find(&args.name)?.ok_or_else(|| TransferError::Unknown(args.name.clone()))?;
    let to = match args.to {
        Some(to) => to,
        None => args.name.parse().map_err(Failure::usage)?,
    };
    let progress = progress::to_stderr();
    let push = Push { layout: &layout, credentials: &Credentials::from_env(), progress: progress.as_ref() };
    // What signs it first: whoever sees the appliance sees that too.
    let signatures = signature::name_of(found.digest());
    if let Some(of_it) = layout.find(&signatures)? {
        push.image(&signatures, &of_it, &to.with_tag(&signatures)).await?;
    }
    push.image(&args.name, &found, &to).await?;
    let pushed = image::Imported { name: to.to_string(), digest: found.digest().to_string() };
    if args.json {
        return print_line(as_json(&pushed));
    }
    print_line(format_args!("{} {}", pushed.name, pushed.digest))
}

fn as_json(image: &image::Imported) -> serde_json::Value {
    serde_json::json!({"name": image.name, "digest": image.digest})
}

/// An image from its registry, under its whole name.
pub(in crate::cli) async fn bring(
    directories: &Directories,
    image: &ImageRef,
    mirrors: &Mirrors,
    all_platforms: bool,
    progress: &dyn Progress,
) -> Result<image::Imported, Failure> {
    let layout = Layout::open(&directories.images())?;
    let _held = layout.pulling()?;
    let credentials = &Credentials::from_env();
    let mirrors = &mirrors.all()?;
    let pull = Pull { layout: &layout, credentials, mirrors, all_platforms, progress };
    let found = pull.image(image).await?;
    let mut signed = None;
    if layout.is_appliance(&found)? {
        let signatures = signature::name_of(found.digest());
        match pull.image(&image.with_tag(&signatures)).await {
            Ok(of_it) => signed = Some(of_it),
            Err(PullError::Registry(registry::Error::NotFound { .. })) => {}
            // Whoever asks for signatures does so when it is booted.
            Err(PullError::Registry(error)) => eprintln!("signatures of {image} could not be had: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    let (directories, name) = (directories.clone(), image.to_string());
    Ok(tokio::task::spawn_blocking(move || image::keep(&directories, &name, found, signed.as_ref()))
        .await??)
}

/// Brings what a definition names and what is not here, or all of it once more, each as its lock has it.
pub(in crate::cli) async fn bring_parts(
    context: &Context,
    source: &Source,
    mirrors: &Mirrors,
    again: bool,
) -> Result<(), Failure> {
    let (directories, progress) = (appliance::directories(context), progress::to_stderr());
    for needed in images::needed(source, &directories)? {
        if needed.is_here && !again {
            continue;
        }
        let name: ImageRef = needed.name.parse()?;
        let name = match needed.digest.filter(|_| !again) {
            Some(digest) => name.with_digest(digest.as_ref()),
            None => name,
        };
        bring(&directories, &name, mirrors, false, progress.as_ref()).await?;
    }
    Ok(())
}
