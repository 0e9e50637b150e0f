//! The lock: every package that an appliance is made of, by version and hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use oci_spec::image::Digest;
use serde::{Deserialize, Serialize};

/// The first lines of every lock that is written.
const HEADER: &str = "# Made by `mvm image lock`. Every package that the components and tools of an appliance are made \
    of;\n# a build takes exactly these, or fails naming the one that its suite no longer has.\n";

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("cannot read the lock")]
    Syntax(#[from] serde_yaml::Error),
    #[error(
        "this lock has version {0}, and this mvm knows version 1; use the mvm that wrote it, or lock anew"
    )]
    Version(u32),
    #[error("the lock gives {package} the SHA-256 {sha256:?}, which is not 64 hexadecimal digits")]
    Hash { package: String, sha256: String },
    #[error("the lock has {0:?}, which cannot be the name of a package or its version")]
    Word(String),
    #[error("the lock does not name {package}")]
    Unlocked { package: String },
    #[error(
        "the lock has the kernel {kernel} with another configuration than this mvm brings; use the mvm that wrote it, or lock anew"
    )]
    Kernel { kernel: String },
}

/// One package exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) version: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// Which package is meant: the suite has one version of a name for an architecture at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) suite: String,
    pub(crate) architecture: String,
    pub(crate) package: String,
}

impl Name {
    fn key(&self) -> String {
        format!("{}/{}/{}", self.suite, self.architecture, self.package)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} of {})", self.package, self.architecture, self.suite)
    }
}

/// The whole lock; its maps are sorted, so that a change shows as its own lines only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    /// By `SUITE/ARCHITECTURE/NAME`.
    packages: BTreeMap<String, Pin>,
    /// The packages of each tool with all that they depend on, by `TOOL/ARCHITECTURE`.
    tools: BTreeMap<String, BTreeSet<String>>,
    /// The hash of each kernel's configuration and patches, by `COMPONENT/ARCHITECTURE`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    kernels: BTreeMap<String, String>,
    /// What each image of others is, by the name that the definition has for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<String, Digest>,
    /// Whether it was made for the definition that is built. One that was made for another knows nothing of its images.
    #[serde(skip)]
    pub(crate) is_own: bool,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            version: 1,
            packages: BTreeMap::new(),
            tools: BTreeMap::new(),
            kernels: BTreeMap::new(),
            images: BTreeMap::new(),
            is_own: false,
        }
    }
}

impl Lock {
    pub(crate) fn parse(text: &str) -> Result<Self, LockError> {
        let lock: Self = serde_yaml::from_str(text)?;
        if lock.version != 1 {
            return Err(LockError::Version(lock.version));
        }
        if let Some(word) = lock.words().find(|word| !is_word(word)) {
            return Err(LockError::Word(word.to_owned()));
        }
        match lock.packages.iter().find(|(_, pin)| !is_sha256(&pin.sha256)) {
            Some((package, pin)) => {
                Err(LockError::Hash { package: package.clone(), sha256: pin.sha256.clone() })
            }
            None => Ok(lock),
        }
    }

    /// Everything that may become a part of an argument: names and versions of packages.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let pins = self.packages.iter();
        let pins = pins.flat_map(|(key, pin)| key.split('/').chain([pin.version.as_str()]));
        let tools = self.tools.iter();
        pins.chain(tools.flat_map(|(key, names)| key.split('/').chain(names.iter().map(String::as_str))))
    }

    pub(crate) fn to_text(&self) -> Result<String, LockError> {
        Ok(format!("{HEADER}{}", serde_yaml::to_string(self)?))
    }

    pub(crate) fn pin(&self, name: &Name) -> Result<&Pin, LockError> {
        self.packages.get(&name.key()).ok_or_else(|| LockError::Unlocked { package: name.to_string() })
    }

    /// Those of all packages.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &str> {
        self.packages.values().map(|pin| pin.sha256.as_str())
    }

    /// The packages of a tool.
    pub(crate) fn tool(&self, tool: &str, architecture: &str) -> Result<&BTreeSet<String>, LockError> {
        self.tools
            .get(&format!("{tool}/{architecture}"))
            .ok_or_else(|| LockError::Unlocked { package: format!("the tool {tool} for {architecture}") })
    }

    /// What the image of that name has to be; nothing where any will do.
    pub(crate) fn image(&self, name: &str) -> Result<Option<&Digest>, LockError> {
        match self.images.get(name) {
            None if self.is_own => Err(LockError::Unlocked { package: format!("the image {name}") }),
            digest => Ok(digest),
        }
    }

    /// Whether the kernel of a component is configured as it was when the lock was made.
    pub(crate) fn check_kernel(
        &self,
        component: &str,
        architecture: &str,
        configuration: &str,
    ) -> Result<(), LockError> {
        match self.kernels.get(&format!("{component}/{architecture}")) {
            Some(locked) if locked == configuration => Ok(()),
            Some(_) => Err(LockError::Kernel { kernel: component.to_owned() }),
            None if self.is_own => Err(LockError::Unlocked { package: format!("the kernel {component}") }),
            None => Ok(()),
        }
    }

    pub(crate) fn set_kernel(&mut self, component: &str, architecture: &str, configuration: String) {
        self.kernels.insert(format!("{component}/{architecture}"), configuration);
    }

    pub(crate) fn set_image(&mut self, name: &str, digest: Digest) {
        self.images.insert(name.to_owned(), digest);
    }

    pub(crate) fn set_pin(&mut self, name: &Name, pin: Pin) {
        self.packages.insert(name.key(), pin);
    }

    pub(crate) fn set_tool(&mut self, tool: &str, architecture: &str, packages: BTreeSet<String>) {
        self.tools.insert(format!("{tool}/{architecture}"), packages);
    }

    /// Takes over what another lock says of a package, or of all packages of a tool.
    pub(crate) fn take_pin(&mut self, name: &Name, from: &Self) -> Result<(), LockError> {
        self.set_pin(name, from.pin(name)?.clone());
        Ok(())
    }

    pub(crate) fn take_tool(&mut self, tool: &str, architecture: &str, from: &Self) -> Result<(), LockError> {
        self.set_tool(tool, architecture, from.tool(tool, architecture)?.clone());
        Ok(())
    }

    /// Takes over what another lock says of other architectures than this one.
    pub(crate) fn keep_other_architectures(&mut self, other: &Self, architecture: &str) {
        let middle = format!("/{architecture}/");
        let end = format!("/{architecture}");
        for (key, pin) in other.packages.iter().filter(|(key, _)| !key.contains(&middle)) {
            self.packages.entry(key.clone()).or_insert_with(|| pin.clone());
        }
        for (key, configuration) in other.kernels.iter().filter(|(key, _)| !key.ends_with(&end)) {
            self.kernels.entry(key.clone()).or_insert_with(|| configuration.clone());
        }
        for (key, packages) in other.tools.iter().filter(|(key, _)| !key.ends_with(&end)) {
            self.tools.entry(key.clone()).or_insert_with(|| packages.clone());
        }
    }

    /// What became of each package on the way from an older lock to this one.
    pub(crate) fn changes_from(&self, older: &Self) -> Vec<String> {
        let keys: BTreeSet<_> = older.packages.keys().chain(self.packages.keys()).collect();
        let packages =
            keys.into_iter().filter_map(|key| change(key, older.packages.get(key), self.packages.get(key)));
        let names: BTreeSet<_> = older.images.keys().chain(self.images.keys()).collect();
        let images = names.into_iter().filter_map(|name| {
            let (before, after) = (older.images.get(name), self.images.get(name));
            (before != after).then(|| moved(name, before, after))
        });
        let kernels = older.kernels.keys().chain(self.kernels.keys()).collect::<BTreeSet<_>>().into_iter();
        let kernels = kernels.filter(|name| older.kernels.get(*name) != self.kernels.get(*name));
        let kernels = kernels.map(|name| format!("the kernel {name}: another configuration"));
        packages.chain(kernels).chain(images).collect()
    }
}

/// Hashes are compared as text and name files of the cache, so they are written in one way only.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Of the characters that Debian's names and versions have, and no option of a program: a lock may come from anybody.
fn is_word(text: &str) -> bool {
    let is_in_names = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:~_".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(is_in_names)
}

fn change(key: &str, before: Option<&Pin>, after: Option<&Pin>) -> Option<String> {
    match (before, after) {
        (Some(before), Some(after)) if before == after => None,
        (Some(before), Some(after)) if before.version == after.version => {
            Some(format!("{key} {}: rebuilt under the same version", after.version))
        }
        _ => {
            let (before, after) = (before.map(|pin| &pin.version), after.map(|pin| &pin.version));
            Some(moved(key, before, after))
        }
    }
}

fn moved(key: &str, before: Option<impl Display>, after: Option<impl Display>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{key} {before} -> {after}"),
        (None, Some(after)) => format!("{key} {after} (new)"),
        (Some(before), None) => format!("{key} {before} (no longer used)"),
        (None, None) => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(package: &str) -> Name {
        Name { suite: "forky".into(), architecture: "amd64".into(), package: package.into() }
    }

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let mut lock = Lock::default();
        for (package, version) in packages {
            let pin = Pin { version: (*version).into(), size: 7, sha256: "0a".repeat(32) };
            lock.set_pin(&name(package), pin);
        }
        lock
    }

    #[test]
    fn a_lock_survives_its_text() {
        let mut lock = lock(&[("docker.io", "28.5.2"), ("containerd", "2.1.9")]);
        lock.set_tool("qemu", "amd64", ["libc6".to_owned()].into());
        let text = lock.to_text().unwrap();
        assert!(text.find("containerd").unwrap() < text.find("docker.io").unwrap(), "{text}");
        assert_eq!(Lock::parse(&text).unwrap(), lock);
    }

    #[test]
    fn what_is_not_locked_is_named() {
        let error = lock(&[]).pin(&name("runc")).unwrap_err().to_string();
        assert_eq!(error, "the lock does not name runc (amd64 of forky)");
        let error = Lock::parse("version: 2\npackages: {}\ntools: {}\n").unwrap_err().to_string();
        assert!(error.starts_with("this lock has version 2"), "{error}");
    }

    #[test]
    fn a_pin_needs_a_whole_hash() {
        for bad in [String::new(), "0a".repeat(31), "0A".repeat(32), format!("../{}", "0".repeat(61))] {
            let mut lock = lock(&[("a", "1")]);
            let pin = Pin { version: "1".into(), size: 1, sha256: bad.clone() };
            lock.set_pin(&name("runc"), pin);
            let error = Lock::parse(&lock.to_text().unwrap()).unwrap_err().to_string();
            let expected = format!("the lock gives forky/amd64/runc the SHA-256 {bad:?}, which is not 64 ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    /// apt takes a word that begins with a dash for an option, and options of apt's run programs.
    #[test]
    fn no_word_of_a_lock_is_an_option() {
        let refused = |lock: &Lock| Lock::parse(&lock.to_text().unwrap()).unwrap_err().to_string();
        for bad in ["-oAPT::X=1", "a b", "a=b", "", "../x"] {
            let expected =
                |word| format!("the lock has {word:?}, which cannot be the name of a package or its version");
            let mut tool = lock(&[("a", "1")]);
            tool.set_tool("qemu", "amd64", [bad.to_owned()].into());
            assert_eq!(refused(&tool), expected(bad));
            let first = bad.split('/').next().unwrap();
            assert_eq!(refused(&lock(&[(bad, "1")])), expected(first));
            assert_eq!(refused(&lock(&[("a", bad)])), expected(bad));
        }
    }

    #[test]
    fn changes_name_what_moved() {
        let older = lock(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let newer = lock(&[("a", "2"), ("c", "1"), ("d", "1")]);
        assert_eq!(
            newer.changes_from(&older),
            ["forky/amd64/a 1 -> 2", "forky/amd64/b 1 (no longer used)", "forky/amd64/d 1 (new)"]
        );
    }

    #[test]
    fn only_the_lock_of_a_definition_has_to_name_its_images() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64)).parse::<Digest>().unwrap();
        let mut lock = lock(&[]);
        lock.set_image("a/b", digest("1"));
        assert_eq!(lock.image("a/b").unwrap(), Some(&digest("1")));
        assert_eq!(lock.image("c").unwrap(), None);
        lock.is_own = true;
        assert_eq!(lock.image("c").unwrap_err().to_string(), "the lock does not name the image c");
        let mut newer = lock.clone();
        newer.set_image("a/b", digest("2"));
        assert_eq!(newer.changes_from(&lock), [format!("a/b {} -> {}", digest("1"), digest("2"))]);
        lock.is_own = false;
        assert_eq!(Lock::parse(&lock.to_text().unwrap()).unwrap(), lock);
    }

    #[test]
    fn a_kernel_is_configured_as_it_was_locked() {
        let mut lock = lock(&[]);
        lock.set_kernel("kernel", "amd64", "0a".to_owned());
        lock.check_kernel("kernel", "amd64", "0a").unwrap();
        let error = lock.check_kernel("kernel", "amd64", "0b").unwrap_err().to_string();
        assert!(error.starts_with("the lock has the kernel kernel with another configuration "), "{error}");
        lock.check_kernel("kernel-efi", "amd64", "0b").unwrap();
        lock.is_own = true;
        let error = lock.check_kernel("kernel-efi", "amd64", "0b").unwrap_err().to_string();
        assert_eq!(error, "the lock does not name the kernel kernel-efi");
    }

    #[test]
    fn another_architecture_keeps_its_pins() {
        let mut old = lock(&[("a", "1")]);
        old.set_pin(
            &Name { architecture: "arm64".into(), ..name("a") },
            Pin { version: "1".into(), size: 1, sha256: "x".into() },
        );
        let mut new = lock(&[("a", "2")]);
        new.keep_other_architectures(&old, "amd64");
        assert_eq!(new.changes_from(&old), ["forky/amd64/a 1 -> 2"]);
    }
}
