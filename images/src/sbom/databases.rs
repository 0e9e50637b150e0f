//! What the package managers of an image of somebody else's have noted down in it: `dpkg`, also as Distroless splits it, and
//! `apk`. Whoever made the image could write anything there, and it is read as such.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use super::purl::purl;
use super::spdx::{Package, Purpose};
use crate::rootfs::{Node, Tree};

/// More than any image has.
pub(super) const MOST_PACKAGES: usize = 20_000;
const LONGEST: u64 = 64 << 20;

/// A package that a database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) package: Package,
    /// The source that it was built from.
    pub(super) source: Package,
}

/// All of them; and whether that is all.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) installed: Vec<Installed>,
    pub(super) is_cut: bool,
}

pub(super) fn read(tree: &Tree) -> Found {
    const DPKG: &str = "var/lib/dpkg/status";
    const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
    let distribution = Distribution::of(tree);
    let split = tree.below("var/lib/dpkg/status.d").map(|(path, _)| path);
    let split = split.filter(|path| !path.ends_with(".md5sums"));
    let mut found = Found::default();
    for path in [DPKG].into_iter().chain(split) {
        found.read(tree, path, |fields| distribution.dpkg(fields));
    }
    // The one is a link to the other where both are.
    if let Some(path) = APK.into_iter().find(|path| tree.resolve(path).is_some()) {
        found.read(tree, path, |fields| distribution.apk(fields));
    }
    found
}

/// The fields of one package, by their names.
type Fields = BTreeMap<String, String>;

impl Found {
    fn read(&mut self, tree: &Tree, path: &str, package: impl Fn(&Fields) -> Option<Installed>) {
        let Some(Node::File(content)) = tree.resolve(path).map(|entry| &entry.node) else { return };
        self.is_cut |= content.size() > LONGEST;
        let mut fields = Fields::new();
        let lines = BufReader::new(content.reader().take(LONGEST)).split(b'\n');
        for line in lines.map_while(Result::ok).chain([Vec::new()]) {
            let line = String::from_utf8_lossy(&line);
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.starts_with(' ')) {
                fields.insert(name.to_owned(), value.trim().to_owned());
            } else if line.trim().is_empty() {
                let found = package(&std::mem::take(&mut fields));
                self.is_cut |= found.is_some() && self.installed.len() >= MOST_PACKAGES;
                self.installed.extend(found.filter(|_| self.installed.len() < MOST_PACKAGES));
            }
        }
    }
}

fn given<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whose packages they are, by `os-release`.
#[derive(Debug, Default)]
struct Distribution {
    id: String,
    /// As package URLs name it: Debian's by its name, others by their number.
    release: String,
}

impl Distribution {
    fn of(tree: &Tree) -> Self {
        let Some(Node::File(content)) = tree.resolve("etc/os-release").map(|entry| &entry.node) else {
            return Self::default();
        };
        let mut text = String::new();
        // What is no text says nothing.
        let _ = content.reader().take(LONGEST).read_to_string(&mut text);
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
        };
        let id = value("ID").unwrap_or_default();
        let number = value("VERSION_ID").map(|number| format!("{id}-{number}"));
        Self { release: value("VERSION_CODENAME").or(number).unwrap_or_default(), id }
    }

    fn dpkg(&self, fields: &Fields) -> Option<Installed> {
        let get = |name: &str| given(fields, name);
        // What was removed may have left its configuration. Distroless has no such field.
        if get("Status").is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        let (name, version) = (get("Package")?, get("Version")?);
        // `NAME`, or `NAME (VERSION)` where that is another than the package's.
        let source = get("Source").unwrap_or(name);
        let source = match source.split_once(' ') {
            Some((source, version)) => (source, version.trim_matches(['(', ')'])),
            None => (source, version),
        };
        let architecture = get("Architecture").unwrap_or_default();
        Some(self.installed("deb", (name, version, architecture), get("Maintainer"), source))
    }

    fn apk(&self, fields: &Fields) -> Option<Installed> {
        let get = |name: &str| given(fields, name);
        let (name, version) = (get("P")?, get("V")?);
        let source = get("o").unwrap_or(name);
        let package = (name, version, get("A").unwrap_or_default());
        Some(self.installed("apk", package, get("m"), (source, version)))
    }

    fn installed(
        &self,
        kind: &str,
        package: (&str, &str, &str),
        maintainer: Option<&str>,
        source: (&str, &str),
    ) -> Installed {
        let Self { id, release } = self;
        Installed {
            package: built((kind, id, release), package).maintainer(maintainer.unwrap_or_default()),
            source: source_of((kind, id, release), source),
        }
    }
}

/// A package of a distribution: of this kind, its, and of this release.
pub(super) fn built(
    (kind, distribution, release): (&str, &str, &str),
    (name, version, architecture): (&str, &str, &str),
) -> Package {
    let package = Package::new(kind, name, &[version, architecture, distribution, release], Purpose::Install);
    named(package, (kind, distribution, release), (name, version, architecture))
}

/// The source of one.
pub(super) fn source_of(
    (kind, distribution, release): (&str, &str, &str),
    (name, version): (&str, &str),
) -> Package {
    let key = [version, distribution, release];
    let package = Package::new(&format!("{kind}-source"), name, &key, Purpose::Source);
    named(package, (kind, distribution, release), (name, version, "source"))
}

/// With its version, and its package URL if it is known whose it is.
fn named(
    package: Package,
    (kind, distribution, release): (&str, &str, &str),
    (name, version, architecture): (&str, &str, &str),
) -> Package {
    let package = package.version(version);
    if distribution.is_empty() {
        return package;
    }
    let qualifiers = [("arch", architecture), ("distro", release)];
    package.purl(purl(kind, distribution, (name, version), &qualifiers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Entry;

    /// Name, version and package URL of each package, and its source's.
    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.put(path, Entry::file(0o644, text.as_bytes()));
        }
        tree.put("etc/os-release", Entry::symlink("../usr/lib/os-release"));
        let found = read(&tree);
        assert!(!found.is_cut);
        let purl = |package: &Package| {
            let shown = serde_json::to_value(package).unwrap();
            shown["externalRefs"][0]["referenceLocator"].as_str().unwrap().to_owned()
        };
        found.installed.iter().map(|one| format!("{} < {}", purl(&one.package), purl(&one.source))).collect()
    }

    #[test]
    fn installed_packages_of_dpkg_are_found() {
        let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.41-1)\nVersion: 2.41-1+b1\nDescription: x\n x: y\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5";
        let split = "Package: tzdata\nArchitecture: all\nVersion: 2025b\n";
        let debian = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n";
        assert_eq!(
            told(&[
                ("usr/lib/os-release", debian),
                ("var/lib/dpkg/status", status),
                ("var/lib/dpkg/status.d/tzdata", split),
                ("var/lib/dpkg/status.d/tzdata.md5sums", "Package: x\nVersion: 1\n"),
            ]),
            [
                "pkg:deb/debian/libc6@2.41-1%2Bb1?arch=amd64&distro=trixie < pkg:deb/debian/glibc@2.41-1?arch=source&distro=trixie",
                "pkg:deb/debian/bash@5?arch=amd64&distro=trixie < pkg:deb/debian/bash@5?arch=source&distro=trixie",
                "pkg:deb/debian/tzdata@2025b?arch=all&distro=trixie < pkg:deb/debian/tzdata@2025b?arch=source&distro=trixie",
            ]
        );
    }

    #[test]
    fn installed_packages_of_apk_are_found_once() {
        let installed =
            "C:Q1x=\nP:musl-utils\nV:1.2.5-r9\nA:x86_64\no:musl\nm:Somebody <a@b>\nF:usr/bin\nR:ldd\n\n";
        let mut tree = Tree::default();
        tree.put("usr/lib/apk/db/installed", Entry::file(0o644, installed.as_bytes()));
        tree.put("lib", Entry::symlink("usr/lib"));
        assert_eq!(read(&tree).installed.len(), 1);
        assert_eq!(
            told(&[
                ("usr/lib/os-release", "ID=alpine\nVERSION_ID=3.22.1\n"),
                ("lib/apk/db/installed", installed)
            ]),
            [
                "pkg:apk/alpine/musl-utils@1.2.5-r9?arch=x86_64&distro=alpine-3.22.1 < pkg:apk/alpine/musl@1.2.5-r9?arch=source&distro=alpine-3.22.1"
            ]
        );
    }

    #[test]
    fn a_database_without_end_is_cut_and_that_is_known() {
        let mut tree = Tree::default();
        let text: String = (0..=MOST_PACKAGES).map(|number| format!("P:a\nV:{number}\n\n")).collect();
        tree.put("lib/apk/db/installed", Entry::file(0o644, text.into_bytes()));
        let found = read(&tree);
        assert_eq!((found.installed.len(), found.is_cut), (MOST_PACKAGES, true));
    }
}
