//! `mvm imagetools`: what a registry holds, asked from here; no virtual machine is needed.

use std::io::Write;

use clap::Subcommand;

use super::output::written;
use super::{Context, Failure};
use crate::registry::credentials::Credentials;
use crate::registry::{ImageRef, Inspection, Registry};

/// Look at images in a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(Inspect),
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
}

pub async fn run(_: &Context, args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect(args).await,
    }
}

async fn inspect(args: Inspect) -> Result<(), Failure> {
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
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::registry::{Entry, Inspection, Platform};

    #[test]
    fn each_manifest_has_its_four_lines() {
        let entry = |platform| Entry {
            name: "demo:1@sha256:ab".into(),
            media_type: "m".into(),
            digest: "sha256:ab".into(),
            size: 7,
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
             \x20 Name:      demo:1@sha256:ab\n  MediaType: m\n  Platform:  -\n  Size:      7\n"
        );
    }
}
