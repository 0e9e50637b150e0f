//! Which Debian mirror to use: the one that this machine's apt uses.
//!
//! apt tells where it would fetch the Release file of each of its sources from, and a Release file tells whose archive
//! it is. Machines that are made from images have often thrown those files away: then they are fetched, a few hundred
//! kilobytes, into a root of our own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{AptError, missing_apt};
use crate::files;

/// Overrides the mirror.
const OVERRIDE: &str = "MVM_DEBIAN_MIRROR";
/// Where the machine's own Release files lie.
const LISTS: &str = "/var/lib/apt/lists";
/// What the Release files of Debian's own archive say. Those of its security archive, which holds no whole suite, and of
/// its other archives have another label.
const DEBIAN: [&str; 2] = ["Origin: Debian", "Label: Debian"];

/// The base URL of the mirror. `dir` is where we may keep Release files.
pub(super) fn find(dir: &Path) -> Result<String, AptError> {
    if let Some(mirror) = std::env::var(OVERRIDE).ok().filter(|mirror| !mirror.is_empty()) {
        return Ok(mirror);
    }
    let root = dir.join("sources");
    let lists = [PathBuf::from(LISTS), root.join("lists")];
    prepare(&root, &proxies()?).map_err(|source| AptError::Write { path: root.clone(), source })?;
    let sources = update(&root, "--print-uris")?;
    if let Some(mirror) = choose(&sources, &lists) {
        return Ok(mirror);
    }
    // One source that cannot be reached is no reason to give up: what came tells.
    update(&root, "--quiet")?;
    choose(&sources, &lists).ok_or(AptError::NoMirror)
}

/// Lines of apt's configuration that hold for our downloads too: the proxies.
pub(super) fn proxies() -> Result<String, AptError> {
    let output = Command::new("apt-config").arg("dump").stdin(Stdio::null()).output().map_err(missing_apt)?;
    Ok(only_proxies(&String::from_utf8_lossy(&output.stdout)))
}

/// A root with the machine's sources and keys and nothing else of its own: neither its state nor its hooks.
fn prepare(root: &Path, proxies: &str) -> io::Result<()> {
    for part in ["lists/partial", "cache"] {
        fs::create_dir_all(root.join(part))?;
    }
    files::write_atomically(&root.join("status"), b"")?;
    files::write_atomically(&root.join("apt.conf"), configuration(root, proxies).as_bytes())
}

fn update(root: &Path, option: &str) -> Result<String, AptError> {
    let output = Command::new("apt-get")
        .args(["update", option])
        .env("APT_CONFIG", root.join("apt.conf"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(missing_apt)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn configuration(root: &Path, proxies: &str) -> String {
    let root = root.display();
    format!(
        r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Log "{root}";
APT::Sandbox::User "root";
Acquire::Languages "none";
// The Release files are all that is wanted.
Acquire::IndexTargets::deb::Packages::DefaultEnabled "false";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
{proxies}"#
    )
}

/// The first source that is Debian's by its Release file, of the lines `'BASE/dists/SUITE/InRelease' FILE ...`.
fn choose(sources: &str, lists: &[PathBuf]) -> Option<String> {
    sources.lines().find_map(|line| {
        let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let file = rest.split_whitespace().next().filter(|file| file.ends_with("_InRelease"))?;
        let (base, _) = uri.rsplit_once("/dists/")?;
        let is_debian =
            |lists: &PathBuf| fs::read_to_string(lists.join(file)).is_ok_and(|text| says_debian(&text));
        lists.iter().any(is_debian).then(|| base.to_owned())
    })
}

fn says_debian(release: &str) -> bool {
    DEBIAN.iter().all(|wanted| release.lines().any(|line| line == *wanted))
}

fn only_proxies(dump: &str) -> String {
    let is_proxy = |line: &&str| line.starts_with("Acquire::http") && line.contains("Proxy");
    dump.lines().filter(is_proxy).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As apt 2.6.1 prints it, but for the hosts' names.
    const SOURCES: &str = "\
'http://packages.example/apt/dists/nodistro/InRelease' packages.example_apt_dists_nodistro_InRelease 0 
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' mirror.example_debian-security_dists_bookworm-security_InRelease 0 
'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian_dists_bookworm_InRelease 0 
'http://mirror.example/debian/dists/bookworm-updates/InRelease' mirror.example_debian_dists_bookworm-updates_InRelease 0 
";

    /// The beginning of a Release file as Debian has it.
    fn release(origin: &str, label: &str, codename: &str) -> String {
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: {origin}\nLabel: {label}\nSuite: oldstable\n\
            Version: 12.15\nCodename: {codename}\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n"
        )
    }

    #[test]
    fn the_mirror_is_debians_by_its_release_file() {
        let dir = tempfile::tempdir().unwrap();
        let lists = [PathBuf::from("/nonexistent"), dir.path().to_owned()];
        let put = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(choose(SOURCES, &lists), None, "a machine without lists knows no mirror");
        put("packages.example_apt_dists_nodistro_InRelease", release(". nodistro", ". nodistro", "nodistro"));
        put(
            "mirror.example_debian-security_dists_bookworm-security_InRelease",
            release("Debian", "Debian-Security", "bookworm-security"),
        );
        assert_eq!(choose(SOURCES, &lists), None);
        put("mirror.example_debian_dists_bookworm_InRelease", release("Debian", "Debian", "bookworm"));
        assert_eq!(choose(SOURCES, &lists).as_deref(), Some("http://mirror.example/debian"));
    }

    #[test]
    fn only_proxies_are_taken_over() {
        let dump =
            "APT::Architecture \"x\";\nAcquire::http::Proxy \"http://p:1\";\nAcquire::Languages \"de\";\n";
        assert_eq!(only_proxies(dump), "Acquire::http::Proxy \"http://p:1\";\n");
    }
}
