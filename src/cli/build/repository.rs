//! The git repository that a build's context lies in: its provenance names it (`vcs:`), and labels of the image do, where they are
//! asked for. What is looked at, and the variables for it, are those of buildx.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::builder::truth;

/// What the labels of an image are called.
const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";
const DOCKERFILE: &str = "com.docker.image.source.entrypoint";

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `BUILDX_GIT_INFO`
    provenance: bool,
    /// `BUILDX_GIT_LABELS`
    pub(super) labels: bool,
    /// `BUILDX_GIT_CHECK_DIRTY`
    dirty: bool,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Without their `vcs:`.
    pub(super) provenance: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A repository that git does not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    #[error("git is not installed")]
    Missing(#[source] std::io::Error),
    #[error("git: {0}")]
    Refused(String),
}

impl Wanted {
    pub(super) fn of(environment: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |key, default| environment(key).and_then(|word| truth(&word).ok()).unwrap_or(default);
        let labels = "BUILDX_GIT_LABELS";
        Self {
            provenance: is_set("BUILDX_GIT_INFO", true),
            labels: is_set(labels, false) || environment(labels).as_deref() == Some("full"),
            dirty: is_set("BUILDX_GIT_CHECK_DIRTY", false),
        }
    }

    /// The places are those of the context and of the Dockerfile, by their names. Outside of a repository nothing is found.
    pub(super) async fn find(
        self,
        places: &[(String, PathBuf)],
        dockerfile: Option<&Path>,
    ) -> Result<Found, GitError> {
        let mut found = Found::default();
        let context = places.iter().find(|(name, _)| name == "context").map(|(_, path)| path);
        let Some(context) = context.filter(|_| self.provenance || self.labels) else { return Ok(found) };
        // Looking is cheaper than asking.
        if !context.ancestors().any(|directory| directory.join(".git").exists()) {
            return Ok(found);
        }
        let ask = |words| git(context, words);
        let (top, revision, address) = tokio::join!(
            ask(&["rev-parse", "--show-toplevel"]),
            // Fails where there is no commit yet.
            ask(&["rev-parse", "--verify", "--quiet", "HEAD"]),
            // Of the remote that the branch follows, or else of `origin`.
            ask(&["ls-remote", "--get-url"]),
        );
        let top = PathBuf::from(top?);
        let address = match address {
            Ok(address) => Some(address),
            Err(_) => ask(&["remote", "get-url", "upstream"]).await.ok(),
        };
        if let Ok(mut revision) = revision {
            if self.dirty && !ask(&["status", "--porcelain", "--ignored"]).await?.is_empty() {
                revision.push_str("-dirty");
            }
            found.says("revision", REVISION, revision);
        }
        if let Some(address) = address {
            found.says("source", SOURCE, without_credentials(&address));
        }
        let in_it = |path: &Path| Some(written(path.strip_prefix(&top).ok()?));
        for (name, path) in
            places.iter().filter(|(name, _)| ["context", "dockerfile"].contains(&name.as_str()))
        {
            found.provenance.extend(in_it(path).map(|path| (format!("localdir:{name}"), path)));
        }
        found.labels.extend(dockerfile.and_then(in_it).map(|path| (DOCKERFILE.to_owned(), path)));
        if !self.provenance {
            found.provenance.clear();
        }
        if !self.labels {
            found.labels.clear();
        }
        Ok(found)
    }
}

impl Found {
    fn says(&mut self, key: &str, label: &str, value: String) {
        self.labels.insert(label.to_owned(), value.clone());
        self.provenance.insert(key.to_owned(), value);
    }
}

/// What git prints, without the end of its line.
async fn git(directory: &Path, words: &[&str]) -> Result<String, GitError> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(GitError::Missing)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(GitError::Refused(said.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

/// A path below the top; the top itself is a dot.
fn written(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path.to_string_lossy().into_owned() }
}

/// An address without the user and password that it may have. `git@HOST:PATH` is no such address, and has none to hide.
fn without_credentials(address: &str) -> String {
    let parts = address
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.split_at(rest.find('/').unwrap_or(rest.len()))));
    match parts {
        Some((scheme, (authority, path))) => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_in_the_environment() {
        let wanted = |key: &'static str, value: &'static str| {
            Wanted::of(|asked| (asked == key).then(|| value.to_owned()))
        };
        let usual = Wanted { provenance: true, labels: false, dirty: false };
        assert_eq!(wanted("OTHER", ""), usual);
        assert_eq!(wanted("BUILDX_GIT_INFO", "maybe"), usual);
        assert_eq!(wanted("BUILDX_GIT_INFO", "0"), Wanted { provenance: false, ..usual });
        for word in ["true", "full"] {
            assert_eq!(wanted("BUILDX_GIT_LABELS", word), Wanted { labels: true, ..usual });
        }
        assert_eq!(wanted("BUILDX_GIT_CHECK_DIRTY", "1"), Wanted { dirty: true, ..usual });
    }

    #[test]
    fn addresses_are_said_without_what_is_secret() {
        for (address, said) in [
            ("https://me:secret@example.com/r.git", "https://example.com/r.git"),
            ("https://example.com/a@b", "https://example.com/a@b"),
            ("ssh://git@example.com:22/r", "ssh://example.com:22/r"),
            ("https://me:se@cret@example.com", "https://example.com"),
            ("git@example.com:r.git", "git@example.com:r.git"),
            ("/srv/r.git", "/srv/r.git"),
        ] {
            assert_eq!(without_credentials(address), said);
        }
    }

    #[tokio::test]
    async fn outside_of_a_repository_nothing_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let places = [("context".to_owned(), directory.path().to_owned())];
        let wanted = Wanted::of(|_| None);
        assert_eq!(wanted.find(&places, None).await.unwrap(), Found::default());
        assert_eq!(wanted.find(&[], None).await.unwrap(), Found::default());
    }
}
