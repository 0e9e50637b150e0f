//! `mvm imagetools`: what a registry holds, asked from here; no virtual machine is needed.

use std::io::Write;

use clap::Subcommand;

use super::output::{print, print_line, written};
use super::{Context, Failure};
use crate::printable::printable_lines;
use crate::registry::credentials::Credentials;
use crate::registry::{self, ImageRef, Inspection, Registry, Wanted};

mod create;
mod format;
mod shape;

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
    Create(create::Args),
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
    /// What the image says of itself (Name, Manifest, Image, Provenance, SBOM), by a template of Go's or a JSON path
    #[arg(long, value_name = "{{json .PART}} | $.PART", conflicts_with_all = ["raw", "json"])]
    format: Option<Format>,
}

pub async fn run(_: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect(args).await,
        Command::Create(args) => create::run(args).await,
    }
}

async fn inspect(args: Inspect) -> Result<(), Failure> {
    if let Some(format) = args.format.as_ref().filter(|format| **format != Format::Table) {
        let wanted = Wanted {
            configurations: format.mentions("image"),
            attestations: format.mentions("provenance") || format.mentions("sbom"),
        };
        let text = format.of(&registry::details(&args.image, &Credentials::from_env(), wanted).await?)?;
        return print_line(printable_lines(text.strip_suffix('\n').unwrap_or(&text)));
    }
    let credential = Credentials::from_env().for_registry(args.image.registry())?;
    let manifest = Registry::of(&args.image).manifest(&args.image, credential.as_ref()).await?;
    if args.raw {
        return written(std::io::stdout().write_all(&manifest.bytes));
    }
    let inspection = Inspection::new(&args.image, &manifest)?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&inspection)?)
    } else {
        table(&inspection)
    };
    print(printable_lines(&text))
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
