//! `mvm image`: the appliances themselves.

pub(super) mod definition;
mod explain;
mod format;
mod prune;
mod signing;
mod transfer;
mod verify;

use std::fs::Permissions;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use images::{Appliance, DEFAULT_REFERENCE, Format, Pins, Source, Store, spec};

use self::definition::STDIN;
pub(super) use self::transfer::{Mirrors, bring, bring_parts};
use super::appliance::Order;
use super::output::{print, print_line};
use super::{Context, Failure, appliance, progress};
use crate::supervisor::programs;

/// Make, pin and list appliances
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the appliance of a linuxkit.yml, and unpack what this machine lacks to run it; nothing is made anew when
    /// nothing has changed
    Build {
        /// The linuxkit.yml: a file, an http(s) URL, or - for standard input; each adds to those before it [default: the one
        /// that this mvm carries]
        #[arg(value_name = "YML")]
        files: Vec<String>,
        /// The name under which it is kept, for `mvm up --image` [default: the last file's, without .yml]
        #[arg(long, requires = "files")]
        name: Option<String>,
        /// What is made: an appliance that `mvm up` boots, or files for other machines and tools (docs/images.md)
        #[arg(long, value_parser = format::parser(), default_value = "kernel+erofs")]
        format: Format,
        /// The file, or the directory for what is several files, or - for an archive on standard output [default: for
        /// kernel+erofs the store of this mvm, else the working directory]
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// How large a disk is at least: 4096M, 8G [default: as large as it has to be]
        #[arg(long, value_parser = super::size::memory_mib)]
        size: Option<u32>,
        /// Do not hold the root against its hashes as it is read
        #[arg(long)]
        no_verity: bool,
        /// Check the definition and print it, merged; make nothing
        #[arg(long, conflicts_with_all = ["name", "relock", "format", "output", "size"])]
        dry_run: bool,
        /// When a pinned package is gone from its mirror, pin all of them anew and say what changed
        #[arg(long)]
        relock: bool,
        #[command(flatten)]
        mirrors: Mirrors,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Pin every package to what the mirrors have now, and every image to what is here
    Lock {
        /// The linuxkit.yml [default: the one that this mvm carries]
        file: Option<PathBuf>,
        /// Ask the registries for every image anew
        #[arg(long)]
        pull: bool,
        #[command(flatten)]
        mirrors: Mirrors,
    },
    Pull(transfer::PullArgs),
    Push(transfer::PushArgs),
    /// Print the JSON schema of a linuxkit.yml, for editors
    Schema {
        /// The reference page instead, in Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Take over images of containers, for a linuxkit.yml to name
    Import {
        /// An OCI image layout: a directory, or an archive as `docker save` writes it
        from: PathBuf,
        /// What to call the one image that it has [default: the names in it]
        #[arg(long)]
        name: Option<String>,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Tell where a file of an appliance comes from, or who says what of a container: the line of the definition, the image,
    /// its layer, the package
    Explain(explain::Args),
    /// Show what an appliance or an image is made of, as JSON
    Inspect {
        name: String,
    },
    /// Print the bill of materials of an appliance: SPDX 2.3, as JSON
    Sbom {
        /// The appliance [default: the one that this mvm carries]
        #[arg(default_value = DEFAULT_REFERENCE, hide_default_value = true)]
        name: String,
    },
    /// Write an appliance or an image as an archive that `mvm image import` takes, and other tools
    Export {
        name: String,
        /// The file [default: standard output]
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    Verify(verify::VerifyArgs),
    Key(signing::KeyArgs),
    Sign(signing::SignArgs),
    Rm(prune::RmArgs),
    Prune(prune::PruneArgs),
    /// Show the appliances that there are, and the images that were taken over
    Ls {
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(context: Context, args: Args) -> Result<(), Failure> {
    // Heeded before there is anything to remove.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let work = async {
        let blocking: Box<dyn FnOnce() -> Result<(), Failure> + Send> = match args.command {
            Command::Build {
                files,
                name,
                format,
                output,
                size,
                no_verity,
                dry_run,
                relock,
                mirrors,
                json,
            } => {
                if dry_run {
                    return merged(&definition::source(files).await?, json);
                }
                let name = reference(files.last().map(String::as_str), name).map_err(Failure::usage)?;
                let wanted = format::wanted(format, output.as_deref(), size, &name)?;
                let source = definition::source(files).await?;
                transfer::bring_parts(&context, &source, &mirrors, false).await?;
                let pins = if relock { Pins::RelockIfGone } else { Pins::Exact };
                if let Some(output) = wanted {
                    return format::write(context, (source, pins), name, output, json).await;
                }
                Box::new(move || {
                    build(&context, Order { source, pins, verified: !no_verity, name: &name }, json)
                })
            }
            Command::Lock { file, pull, mirrors } => {
                let source = file.map_or(Source::Embedded, Source::from);
                transfer::bring_parts(&context, &source, &mirrors, pull).await?;
                Box::new(move || lock(&context, &source))
            }
            Command::Pull(args) => return transfer::pull(&context, args).await,
            Command::Push(args) => return transfer::push(&context, args).await,
            Command::Prune(args) => return prune::prune(&context, args).await,
            Command::Verify(args) => return verify::verify(context, args).await,
            Command::Key(args) => Box::new(move || signing::key(&args)),
            Command::Sign(args) => Box::new(move || signing::sign(&context, &args)),
            Command::Rm(args) => Box::new(move || prune::rm(&context, &args)),
            Command::Import { from, name, json } => {
                Box::new(move || import(&context, &from, name.as_deref(), json))
            }
            Command::Explain(args) => return explain::run(context, args).await,
            Command::Inspect { name } => Box::new(move || inspect(&context, &name)),
            Command::Sbom { name } => Box::new(move || sbom(&context, &name)),
            Command::Export { name, output } => Box::new(move || export(&context, &name, output.as_deref())),
            Command::Ls { json } => Box::new(move || list(&context, json)),
            Command::Schema { markdown } => Box::new(move || schema(markdown)),
        };
        tokio::task::spawn_blocking(blocking).await?
    };
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Failure::Interrupted),
    }
}

/// An argument that clap lets through and that cannot be meant.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("{DEFAULT_REFERENCE} is the appliance that this mvm carries and makes; give another --name")]
    Reserved,
    #[error("{0} has no name that an appliance could have; give one with --name")]
    NoName(String),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct ImageFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// The name of an appliance: of the one that this mvm carries, or one that says from which file it was made.
fn reference(file: Option<&str>, name: Option<String>) -> Result<String, UsageError> {
    match (file, name) {
        (_, Some(name)) if name == DEFAULT_REFERENCE => Err(UsageError::Reserved),
        (_, Some(name)) => Ok(name),
        (None, None) => Ok(DEFAULT_REFERENCE.to_owned()),
        (Some(file), None) => match Path::new(file).file_stem().and_then(|stem| stem.to_str()) {
            Some(stem) if file != STDIN => Ok(stem.to_owned()),
            _ => Err(UsageError::NoName(file.to_owned())),
        },
    }
}

/// A definition, whole and checked, as it would be built.
fn merged(source: &Source, json: bool) -> Result<(), Failure> {
    let definition = source.read()?;
    if json {
        print_line(serde_json::to_string(&definition)?)?;
    } else {
        print(definition.to_yaml()?)?;
    }
    Ok(())
}

fn schema(markdown: bool) -> Result<(), Failure> {
    if markdown {
        print(spec::reference())?;
    } else {
        print_line(serde_json::to_string_pretty(spec::schema())?)?;
    }
    Ok(())
}

fn build(context: &Context, order: Order<'_>, json: bool) -> Result<(), Failure> {
    let (name, pins) = (order.name, order.pins);
    let progress = progress::to_stderr();
    let directories = appliance::directories(context);
    programs::qemu(&directories, pins, progress.as_ref())?;
    programs::passt(&directories, pins, progress.as_ref())?;
    let made = order.build(&directories, progress.as_ref())?;
    if json {
        print_line(as_json(name, &made))?;
    } else {
        print_line(format_args!("{name} {}", made.digest))?;
    }
    if name != DEFAULT_REFERENCE {
        eprintln!("`mvm up --image {name}` boots it");
    }
    Ok(())
}

fn lock(context: &Context, source: &Source) -> Result<(), Failure> {
    let progress = progress::to_stderr();
    let changes = images::lock(source, &appliance::directories(context), progress.as_ref())?;
    for change in changes.0 {
        print_line(change)?;
    }
    Ok(())
}

fn import(context: &Context, from: &Path, name: Option<&str>, json: bool) -> Result<(), Failure> {
    let directories = appliance::directories(context);
    let store = Store::open(&directories.images())?;
    let (mut images, mut appliances) = (Vec::new(), Vec::new());
    for image in images::image::import(&directories, from, name)? {
        match store.find(&image.name) {
            Ok(Some(found)) => appliances.push((image.name, found)),
            // An appliance for another processor is taken over too, and nothing that could be booted here.
            Ok(None) | Err(_) => images.push((image.name, image.digest)),
        }
    }
    print_images(&images, &appliances, json)
}

fn inspect(context: &Context, name: &str) -> Result<(), Failure> {
    let shown = images::image::inspect(&appliance::directories(context).images(), name)?;
    print_line(serde_json::to_string_pretty(&shown)?)
}

/// As it is kept, byte for byte.
fn sbom(context: &Context, name: &str) -> Result<(), Failure> {
    let bytes = Store::open(&appliance::directories(context).images())?.sbom(name)?;
    print(String::from_utf8(bytes)?)
}

fn export(context: &Context, name: &str, output: Option<&Path>) -> Result<(), Failure> {
    let layout = appliance::directories(context).images();
    let Some(path) = output else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("an archive is nothing for a terminal; give --output FILE"));
        }
        return Ok(images::image::export(&layout, name, std::io::stdout().lock())?);
    };
    // Beside its place until it is whole.
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| ImageFileError { path: path.to_owned(), source };
    let mut making = tempfile::Builder::new();
    // As any file that is made: for everybody whom the umask lets.
    let mut making = making.permissions(Permissions::from_mode(0o666)).tempfile_in(beside).map_err(failed)?;
    images::image::export(&layout, name, std::io::BufWriter::new(&mut making))?;
    making.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn list(context: &Context, json: bool) -> Result<(), Failure> {
    let store = Store::open(&appliance::directories(context).images())?;
    let listed = store.list()?;
    print_images(&store.images()?, &listed.whole, json)?;
    for error in listed.broken {
        Failure::from(error).report();
    }
    Ok(())
}

fn print_images(
    images: &[(String, String)],
    appliances: &[(String, Appliance)],
    json: bool,
) -> Result<(), Failure> {
    if json {
        let image = |(name, digest)| serde_json::json!({"name": name, "digest": digest, "kind": "image"});
        let appliances = appliances.iter().map(|(name, made)| as_json(name, made));
        let all: Vec<_> =
            appliances.chain(images.iter().map(|(name, digest)| image((name, digest)))).collect();
        return print_line(serde_json::to_string(&all)?);
    }
    let appliances = appliances.iter().map(|(name, made)| (name, &made.digest, ""));
    let images = images.iter().map(|(name, digest)| (name, digest, " (image)"));
    print(
        appliances
            .chain(images)
            .map(|(name, digest, kind)| format!("{name} {digest}{kind}\n"))
            .collect::<String>(),
    )?;
    Ok(())
}

/// What `--json` tells of an appliance: also where its parts lie, for whoever boots it by other means.
fn as_json(name: &str, made: &Appliance) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "digest": made.digest,
        "kind": "appliance",
        "kernel": made.kernel,
        "root": made.root,
        "cmdline": made.cmdline,
    })
}

#[cfg(test)]
mod tests {
    use images::DEFAULT_REFERENCE;

    use super::reference;

    #[test]
    fn what_is_made_of_a_file_never_takes_the_place_of_what_mvm_up_makes() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(reference(None, None).unwrap(), DEFAULT_REFERENCE);
        assert_eq!(reference(Some("dir/my.yml"), None).unwrap(), "my");
        assert_eq!(reference(Some("my.yml"), named("other")).unwrap(), "other");
        assert!(reference(Some("my.yml"), named(DEFAULT_REFERENCE)).is_err());
        for nameless in ["..", "-"] {
            let error = reference(Some(nameless), None).unwrap_err().to_string();
            let expected =
                format!("{nameless} has no name that an appliance could have; give one with --name");
            assert_eq!(error, expected);
        }
    }
}
