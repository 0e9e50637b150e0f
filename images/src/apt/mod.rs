//! Debian packages through apt's own verification, in a private root.
//!
//! The host's apt fetches and verifies (Release signatures by the archive's keyring, hashes by the signed indexes), but
//! it never sees the host's sources or package database: each suite has a state directory, a source list of one line
//! and an empty dpkg status of its own, so nothing depends on what the host has installed. Works without root.

mod mirror;
mod output;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) use output::Candidate;

use crate::files;

/// Where Debian's hosts have the keys of its archive; the second name is the newer one.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Why apt did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    #[error("cannot run {program}; install the package {package}")]
    Missing { program: &'static str, package: &'static str, source: io::Error },
    #[error("the keys of Debian's archive are not at {}; install debian-archive-keyring", KEYRINGS[0])]
    NoKeyring,
    #[error(
        "no Debian mirror is known: apt on this machine has no source whose origin is Debian; \
         set MVM_DEBIAN_MIRROR to the URL of one, such as that of the directory which holds dists/ and pool/"
    )]
    NoMirror,
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("apt-get {action} failed for {suite}: {message}")]
    Failed { action: &'static str, suite: String, message: String },
    #[error("apt-get said nothing of {name} in {suite}")]
    Silent { name: String, suite: String },
}

/// One suite of one architecture, in a root of its own.
#[derive(Debug)]
pub(crate) struct Apt {
    suite: String,
    root: PathBuf,
}

impl Apt {
    /// Prepares the private root of a suite below `dir`.
    pub(crate) fn open(dir: &Path, suite: &str, architecture: &str) -> Result<Self, AptError> {
        let root = dir.join(format!("{suite}-{architecture}"));
        for part in ["lists/partial", "cache/archives/partial", "preferences.d"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|source| AptError::Write { path, source })?;
        }
        let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists()).ok_or(AptError::NoKeyring)?;
        let mirror = mirror::find(dir)?;
        let apt = Self { suite: suite.to_owned(), root };
        apt.write("status", "")?;
        apt.write("sources.list", &format!("deb [signed-by={keyring}] {mirror} {suite} main\n"))?;
        apt.write("apt.conf", &apt.configuration(architecture, &mirror::proxies()?))?;
        Ok(apt)
    }

    /// Fetches the suite's indexes.
    pub(crate) fn update(&self) -> Result<(), AptError> {
        self.run("update", &["update", "-q"]).map(drop)
    }

    /// Whether [`Apt::update`] ever succeeded here.
    pub(crate) fn has_indexes(&self) -> bool {
        fs::read_dir(self.root.join("lists")).is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
            })
        })
    }

    /// The names of these packages and of all that they depend on, without recommendations.
    pub(crate) fn closure(&self, names: &[String]) -> Result<Vec<String>, AptError> {
        let mut arguments = vec!["install", "--print-uris", "-q", "-y", "--no-install-recommends"];
        arguments.extend(names.iter().map(String::as_str));
        let text = self.run("install --print-uris", &arguments)?;
        let mut names: Vec<_> =
            output::candidates(&text).into_iter().map(|candidate| candidate.name).collect();
        names.sort();
        Ok(names)
    }

    /// What the suite has under these names now.
    pub(crate) fn candidates(&self, names: &[String]) -> Result<Vec<Candidate>, AptError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["download", "--print-uris", "-q"];
        arguments.extend(names.iter().map(String::as_str));
        let found = output::candidates(&self.run("download --print-uris", &arguments)?);
        match names.iter().find(|name| !found.iter().any(|candidate| candidate.name == **name)) {
            Some(name) => Err(AptError::Silent { name: name.clone(), suite: self.suite.clone() }),
            None => Ok(found),
        }
    }

    /// Downloads packages, each `NAME=VERSION`, into a directory. `percent` hears how far it is.
    pub(crate) fn download(
        &self,
        pins: &[String],
        into: &Path,
        percent: &mut dyn FnMut(f64),
    ) -> Result<(), AptError> {
        let mut command = self.command();
        command.args(["download", "-q", "-o", "APT::Status-Fd=1"]).args(pins).current_dir(into);
        let output = output::run_with_status(&mut command, percent).map_err(missing_apt)?;
        self.check("download", &output).map(drop)
    }

    fn run(&self, action: &'static str, arguments: &[&str]) -> Result<String, AptError> {
        let output = self.command().args(arguments).output().map_err(missing_apt)?;
        self.check(action, &output)
    }

    fn check(&self, action: &'static str, output: &Output) -> Result<String, AptError> {
        let errors = String::from_utf8_lossy(&output.stderr);
        // A mirror that cannot be reached is only a warning to `apt-get update`, which then keeps old indexes or none.
        let failed = !output.status.success() || errors.contains("Failed to fetch");
        if failed {
            let message = output::reason(&errors);
            return Err(AptError::Failed { action, suite: self.suite.clone(), message });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// apt reads this file before the host's configuration, whose directories it then turns away.
    fn configuration(&self, architecture: &str, proxies: &str) -> String {
        let root = self.root.display();
        format!(
            r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{root}/preferences.d";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}/cache";
Dir::Log "{root}";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
// Downloads go into the user's own directories, where another user could not write.
APT::Sandbox::User "root";
// A mirror that stands still for a while is no danger to a build that names its packages' hashes.
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
{proxies}"#
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<(), AptError> {
        let path = self.root.join(name);
        files::write_atomically(&path, text.as_bytes()).map_err(|source| AptError::Write { path, source })
    }
}

fn missing_apt(source: io::Error) -> AptError {
    AptError::Missing { program: "apt-get", package: "apt", source }
}
