//! `mvm imagetools create`: one name for what is in registries already.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::output::print_line;
use crate::cli::progress::{self, Style};
use crate::printable::printable_lines;
use crate::registry::credentials::Credentials;
use crate::registry::{
    ImageRef, IndexAnnotation, InvalidSource, Join, JoinOptions, Placed, Platform, Source,
};

/// Join images into one that has all their platforms, or give an image another name
///
/// What is missing in a name's repository is brought there: nothing travels within a registry that can do without, and nothing is
/// kept on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is joined: NAME, NAME:TAG, NAME@sha256:DIGEST; or sha256:DIGEST or a descriptor as JSON, in the repository of -t
    #[arg(value_name = "IMAGE", required_unless_present = "files")]
    sources: Vec<Source>,
    /// A file with one more of them, which comes before the others; may be given several times
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The name that it gets; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<ImageRef>,
    /// Keep what the first name stands for now, and add to it
    #[arg(long, requires = "tags")]
    append: bool,
    /// Say something of the index, or of its entries
    #[arg(long = "annotation", value_name = "index:KEY=VALUE | manifest-descriptor[PLATFORM]:KEY=VALUE")]
    annotations: Vec<IndexAnnotation>,
    /// Only these platforms, and what is attested of them
    #[arg(short, long = "platform", value_name = "OS/ARCHITECTURE[/VARIANT]", value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Whether one image of one platform gets an index around it
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    prefer_index: bool,
    /// Print what would get the name, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// How to show progress, on stderr: `tty` draws, `plain` prints lines, `rawjson` BuildKit's reports, `quiet` nothing; `auto` is
    /// `tty` on a terminal
    #[arg(long, value_enum, value_name = "STYLE", env = "BUILDKIT_PROGRESS", default_value = "auto")]
    progress: Style,
}

/// An argument that clap lets through and that cannot be meant.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("what comes of it needs a name; give one with -t, or look at it with --dry-run")]
    NoName,
    #[error("-t {0} has a digest, which follows from what it names; give a tag")]
    Digest(Box<ImageRef>),
    #[error("{0} is in no repository that is named here; give -t NAME, or NAME@{0}")]
    NoRepository(String),
    #[error("cannot read {path:?}; check what --file names")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path:?} of --file has nothing to join: {source}")]
    Content { path: PathBuf, source: InvalidSource },
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    if args.tags.is_empty() && !args.dry_run {
        return Err(Failure::usage(UsageError::NoName));
    }
    if let Some(tag) = args.tags.iter().find(|tag| tag.has_digest()) {
        return Err(Failure::usage(UsageError::Digest(Box::new(tag.clone()))));
    }
    let files: Result<Vec<_>, _> = args.files.iter().map(|path| read(path)).collect();
    let mut sources = files.map_err(Failure::usage)?;
    sources.extend(args.sources);
    let sources = placed(sources, args.tags.first()).map_err(Failure::usage)?;
    let before = args.tags.first().filter(|_| args.append).cloned().map(Placed::from);
    let sources: Vec<_> = before.into_iter().chain(sources).collect();

    let credentials = Credentials::from_env();
    let progress = progress::styled(args.progress);
    let join = Join { credentials: &credentials, progress: progress.as_ref() };
    let options = JoinOptions {
        annotations: args.annotations,
        platforms: args.platforms,
        keeps_manifest: !args.prefer_index,
    };
    let joined = join.of(&sources, &options).await?;
    if args.dry_run {
        return print_line(printable_lines(String::from_utf8_lossy(&joined.bytes).trim_end()));
    }
    for tag in &args.tags {
        join.push(&joined, tag).await?;
    }
    print_line(joined.digest())
}

fn read(path: &Path) -> Result<Source, UsageError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| UsageError::Unreadable { path: path.to_owned(), source })?;
    text.parse().map_err(|source| UsageError::Content { path: path.to_owned(), source })
}

/// With the repository of each: its own, or that of the first name; without a name the one that all images are in.
fn placed(sources: Vec<Source>, name: Option<&ImageRef>) -> Result<Vec<Placed>, UsageError> {
    let images = || {
        sources.iter().filter_map(|source| match source {
            Source::Image(image) => Some(image),
            Source::Content(_) => None,
        })
    };
    let only = images().next().filter(|first| images().all(|image| image.repository() == first.repository()));
    let home = name.or(only).cloned();
    let place = |source| match (source, &home) {
        (Source::Image(image), _) => Ok(image.into()),
        (Source::Content(content), Some(home)) => Ok(Placed::beside(home, content)),
        (Source::Content(content), None) => Err(UsageError::NoRepository(content.digest)),
    };
    sources.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_in_the_repository_of_the_name_or_of_the_images() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let placed = |sources: &[&str], name: Option<&str>| {
            let sources = sources.iter().map(|text| text.parse().unwrap()).collect();
            super::placed(sources, name.map(|name| name.parse().unwrap()).as_ref())
        };
        let image = |name: &str| Placed::from(format!("{name}@{digest}").parse::<ImageRef>().unwrap());
        let of = |places: Result<Vec<Placed>, UsageError>| format!("{:?}", places.unwrap().last().unwrap());
        let contains = |text: String, name: &str| assert!(text.contains(name), "{text}");
        contains(of(placed(&["a:1", &digest], Some("b.example/c:1"))), "\"b.example\"");
        contains(of(placed(&["x.example/a:1", "x.example/a:2", &digest], None)), "\"x.example\"");
        assert_eq!(placed(&[&format!("a@{digest}")], None).unwrap(), [image("a")]);
        for sources in [&[digest.as_str()][..], &["a:1", "b:1", &digest]] {
            let error = placed(sources, None).unwrap_err().to_string();
            let wanted = "is in no repository that is named here; give -t NAME, or NAME@sha256:";
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_file_is_one_source() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("source");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.ends_with("check what --file names"), "{error}");
        std::fs::write(&path, "demo:1\n").unwrap();
        assert_eq!(read(&path).unwrap(), Source::Image("demo:1".parse().unwrap()));
        std::fs::write(&path, "{}").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("of --file has nothing to join: this is no descriptor"), "{error}");
    }
}
