//! `mvm imagetools`: what a registry holds, asked from here; no virtual machine is needed.

use std::io::Write;

use clap::Subcommand;

use super::output::{print, print_line, written};
use super::{Context, Failure, progress};
use crate::registry::credentials::Credentials;
use crate::registry::{
    self, ImageRef, IndexAnnotation, Inspection, Join, JoinOptions, Platform, Registry, Wanted,
};

mod format;

use format::Format;

/// Look at images in registries, and give them names
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(Inspect),
    Create(Create),
}

/// Join images into one that has all their platforms, or give an image another name
///
/// What is missing in a name's repository is brought there: nothing travels within a registry that can do without, and nothing is
/// kept on this machine.
#[derive(Debug, clap::Args)]
struct Create {
    /// What is joined: NAME, NAME:TAG or NAME@sha256:DIGEST
    #[arg(value_name = "IMAGE", required = true)]
    sources: Vec<ImageRef>,
    /// The name that it gets; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", required_unless_present = "dry_run")]
    tags: Vec<ImageRef>,
    /// Keep what the first name stands for now, and add to it
    #[arg(long, requires = "tags")]
    append: bool,
    /// Say something of the index, or of its entries
    #[arg(long = "annotation", value_name = "index:KEY=VALUE | manifest-descriptor[PLATFORM]:KEY=VALUE")]
    annotations: Vec<IndexAnnotation>,
    /// Only these platforms
    #[arg(long = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Whether one image of one platform gets an index around it
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    prefer_index: bool,
    /// Print what would get the name, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// List the platforms of an image, each with the name and digest to pull or run it by
#[derive(Debug, clap::Args)]
struct Inspect {
    /// NAME, NAME:TAG or NAME@sha256:DIGEST
    image: ImageRef,
    /// Print the manifest as the registry sent it, byte for byte
    #[arg(long)]
    raw: bool,
    /// As one JSON object
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// A part of what the image says of itself (name, manifest, image, provenance, sbom), by a template or a JSON path
    #[arg(long, value_name = "{{json .PART}} | $.PART", conflicts_with_all = ["raw", "json"])]
    format: Option<Format>,
}

pub async fn run(_: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect(args).await,
        Command::Create(args) => create(args).await,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("-t {0} has a digest, which follows from what it names; give a tag")]
struct DigestError(Box<ImageRef>);

async fn create(args: Create) -> Result<(), Failure> {
    if let Some(tag) = args.tags.iter().find(|tag| tag.has_digest()) {
        return Err(Failure::usage(DigestError(Box::new(tag.clone()))));
    }
    let credentials = Credentials::from_env();
    let progress = progress::to_stderr();
    let join = Join { credentials: &credentials, progress: progress.as_ref() };
    let options = JoinOptions {
        annotations: args.annotations,
        platforms: args.platforms,
        keeps_manifest: !args.prefer_index,
    };
    let before = args.tags.first().filter(|_| args.append).cloned();
    let sources: Vec<_> = before.into_iter().chain(args.sources).collect();
    let joined = join.of(&sources, &options).await?;
    if args.dry_run {
        return print(format_args!("{}\n", String::from_utf8_lossy(&joined.bytes).trim_end()));
    }
    for tag in &args.tags {
        join.push(&joined, tag).await?;
    }
    print_line(joined.digest())
}

async fn inspect(args: Inspect) -> Result<(), Failure> {
    if let Some(format) = &args.format {
        let wanted = Wanted {
            configurations: format.mentions("image"),
            attestations: format.mentions("provenance") || format.mentions("sbom"),
        };
        let text = format.of(&registry::details(&args.image, &Credentials::from_env(), wanted).await?)?;
        return print(format_args!("{}\n", text.strip_suffix('\n').unwrap_or(&text)));
    }
    let credential = Credentials::from_env().for_registry(args.image.registry())?;
    let manifest = Registry::of(&args.image).manifest(&args.image, credential.as_ref()).await?;
    let text = if args.raw {
        manifest.bytes
    } else if args.json {
        let mut json = serde_json::to_vec_pretty(&Inspection::new(&args.image, &manifest)?)?;
        json.push(b'\n');
        json
    } else {
        table(&Inspection::new(&args.image, &manifest)?).into_bytes()
    };
    written(std::io::stdout().write_all(&text))
}

/// As `docker buildx imagetools inspect` lays it out, with the sizes.
fn table(image: &Inspection) -> String {
    let mut text = format!(
        "Name:      {}\nMediaType: {}\nDigest:    {}\nSize:      {}\n",
        image.name, image.media_type, image.digest, image.size
    );
    if !image.manifests.is_empty() {
        text.push_str("\nManifests:\n");
    }
    for (index, entry) in image.manifests.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let platform = entry.platform.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        text.push_str(&format!(
            "  Name:      {}\n  MediaType: {}\n  Platform:  {platform}\n  Size:      {}\n",
            entry.name, entry.media_type, entry.size
        ));
        if let Some(attests) = &entry.attests {
            text.push_str(&format!("  Attests:   {attests}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::registry::{Entry, Inspection, Platform};

    #[test]
    fn each_manifest_has_its_four_lines() {
        let entry = |platform: Option<Platform>| Entry {
            name: "demo:1@sha256:ab".into(),
            media_type: "m".into(),
            digest: "sha256:ab".into(),
            size: 7,
            attests: platform.is_none().then(|| "sha256:ef".into()),
            platform,
        };
        let image = Inspection {
            name: "demo:1".into(),
            media_type: "list".into(),
            digest: "sha256:cd".into(),
            size: 99,
            manifests: vec![entry(Some(Platform::new("linux", "arm", "v7"))), entry(None)],
        };
        assert_eq!(
            table(&image),
            "Name:      demo:1\nMediaType: list\nDigest:    sha256:cd\nSize:      99\n\nManifests:\n\
             \x20 Name:      demo:1@sha256:ab\n  MediaType: m\n  Platform:  linux/arm/v7\n  Size:      7\n\n\
             \x20 Name:      demo:1@sha256:ab\n  MediaType: m\n  Platform:  -\n  Size:      7\n  Attests:   sha256:ef\n"
        );
    }
}
