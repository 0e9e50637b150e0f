//! Finds what the command line names.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::archive::{self, is_archive};
use super::{
    Archive, Context, DOCKERFILE, Dockerfile, DockerfileAt, LONGEST_DOCKERFILE, NamedContext, Source,
    SourceError,
};

/// Standard input, on the command line.
const STDIN: &str = "-";
/// What an address can begin with.
const SCHEMES: [&str; 5] = ["http://", "https://", "git://", "ssh://", "github.com/"];

impl Source {
    /// `context` is a directory, an address, or `-` for standard input.
    pub fn find(
        context: &Path,
        dockerfile: DockerfileAt<'_>,
        named: Vec<NamedContext>,
        stdin: impl Read,
    ) -> Result<Self, SourceError> {
        let text = context.to_str().unwrap_or_default();
        if text == STDIN {
            return Self::of_stdin(dockerfile, named, stdin);
        }
        if !context.is_dir() && is_remote(text) {
            let dockerfile = match dockerfile {
                DockerfileAt::Usual => in_context(Path::new(DOCKERFILE)),
                DockerfileAt::Path(path) if is_stdin(path) => Dockerfile::read(stdin)?,
                DockerfileAt::Path(path) if path.is_absolute() => Dockerfile::at(path)?,
                DockerfileAt::Path(path) => in_context(path),
                DockerfileAt::Text(text) => Dockerfile::keep(text)?,
            };
            return Ok(Self { context: Context::Remote(text.to_owned()), dockerfile, named });
        }
        let absolute = std::fs::canonicalize(context)
            .map_err(|source| SourceError::Context { path: context.to_owned(), source })?;
        if !absolute.is_dir() {
            return Err(SourceError::NotADirectory(context.to_owned()));
        }
        let dockerfile = match dockerfile {
            DockerfileAt::Usual => Dockerfile::at(&default_dockerfile(context))?,
            DockerfileAt::Path(path) if is_stdin(path) => Dockerfile::read(stdin)?,
            DockerfileAt::Path(path) => Dockerfile::at(path)?,
            DockerfileAt::Text(text) => Dockerfile::keep(text)?,
        };
        Ok(Self { context: Context::Directory(absolute), dockerfile, named })
    }

    /// Standard input has an archive, or a Dockerfile that copies nothing from a context.
    fn of_stdin(
        dockerfile: DockerfileAt<'_>,
        named: Vec<NamedContext>,
        mut stdin: impl Read,
    ) -> Result<Self, SourceError> {
        if matches!(dockerfile, DockerfileAt::Path(path) if is_stdin(path)) {
            return Err(SourceError::StdinTwice);
        }
        let mut head = Vec::new();
        let read = stdin.by_ref().take(archive::HEAD as u64).read_to_end(&mut head);
        read.map_err(|source| SourceError::Stdin { what: "build context", source })?;
        if head.is_empty() {
            return Err(SourceError::NothingOnStdin("build context"));
        }
        if is_archive(&head) {
            let dockerfile = match dockerfile {
                DockerfileAt::Usual => in_context(Path::new(DOCKERFILE)),
                DockerfileAt::Path(path) => in_context(path),
                DockerfileAt::Text(text) => Dockerfile::keep(text)?,
            };
            return Ok(Self { context: Context::Archive(Archive::Stdin(head)), dockerfile, named });
        }
        if !matches!(dockerfile, DockerfileAt::Usual) {
            return Err(SourceError::DockerfileTwice);
        }
        let dockerfile = Dockerfile::read(head.as_slice().chain(stdin))?;
        let empty = TempDir::new().map_err(SourceError::Temporary)?;
        Ok(Self { context: Context::Nothing(Arc::new(empty)), dockerfile, named })
    }
}

impl Dockerfile {
    fn at(path: &Path) -> Result<Self, SourceError> {
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let missing = |_| SourceError::NoDockerfile(path.to_owned());
        let metadata = std::fs::metadata(path).map_err(missing)?;
        let directory = std::fs::canonicalize(directory).map_err(missing)?;
        match name.filter(|_| metadata.is_file()) {
            Some(name) => Ok(Self::File { directory, name }),
            None => Err(SourceError::NotAFile(path.to_owned())),
        }
    }

    fn read(stdin: impl Read) -> Result<Self, SourceError> {
        let mut text = Vec::new();
        let read = stdin.take(LONGEST_DOCKERFILE.saturating_add(1) as u64).read_to_end(&mut text);
        read.map_err(|source| SourceError::Stdin { what: "Dockerfile", source })?;
        if text.is_empty() {
            return Err(SourceError::NothingOnStdin("Dockerfile"));
        }
        if text.len() > LONGEST_DOCKERFILE {
            return Err(SourceError::LongDockerfile);
        }
        Self::keep(&text)
    }

    fn keep(text: &[u8]) -> Result<Self, SourceError> {
        let directory = TempDir::new().map_err(SourceError::Temporary)?;
        std::fs::write(directory.path().join(DOCKERFILE), text).map_err(SourceError::Temporary)?;
        Ok(Self::Text(Arc::new(directory)))
    }
}

fn in_context(path: &Path) -> Dockerfile {
    Dockerfile::InContext(path.to_string_lossy().into_owned())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

fn default_dockerfile(context: &Path) -> PathBuf {
    let usual = context.join(DOCKERFILE);
    let lower = context.join("dockerfile");
    if !usual.exists() && lower.exists() { lower } else { usual }
}

/// An address that the builder fetches from.
pub(super) fn is_remote(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme)) || is_scp(text)
}

/// A repository that needs an ssh agent.
pub(super) fn is_ssh(address: &str) -> bool {
    address.starts_with("ssh://") || is_scp(address)
}

/// `USER@HOST:PATH`, as scp and git have it.
fn is_scp(text: &str) -> bool {
    let word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let parts = text.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    parts.is_some_and(|(user, (host, path))| word(user) && word(host) && !path.is_empty())
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
