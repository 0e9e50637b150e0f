//! The files that remember builders: one for each, and one that names the builder in use.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Builder;
use crate::instance::{Home, Name, file};

/// Beside the instances; no instance's name begins with a dot.
const DIRECTORY: &str = ".builders";
/// No builder's name begins with a dot.
const IN_USE: &str = ".in-use";

/// A file that remembers builders cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot read {path:?}, which remembers a builder; `mvm rm` of its name removes it")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path:?}, which remembers builders")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// All builders that were made with `mvm create`.
#[derive(Debug, Clone)]
pub struct Builders {
    directory: PathBuf,
}

impl Builders {
    pub fn at(home: &Home) -> Self {
        Self { directory: home.state.join(DIRECTORY) }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<Name> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let name = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
        let mut names: Vec<Name> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
        names.sort();
        names
    }

    pub fn exists(&self, name: &Name) -> bool {
        self.path(name).exists()
    }

    pub fn load(&self, name: &Name) -> Result<Option<Builder>, StoreError> {
        let path = self.path(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|error| StoreError::Read { path, source: error.into() })
    }

    pub fn save(&self, builder: &Builder) -> Result<(), StoreError> {
        let path = self.path(&builder.name);
        let text = serde_json::to_vec_pretty(builder);
        let write = |text: Vec<u8>| self.write(&path, &text);
        text.map_err(io::Error::from).and_then(write).map_err(|source| StoreError::Write { path, source })
    }

    /// The builder that made this instance for itself, or is going to.
    pub fn owner(&self, instance: &Name) -> Result<Option<Name>, StoreError> {
        for name in self.names() {
            let nodes = self.load(&name)?.map(|builder| builder.nodes).unwrap_or_default();
            if nodes.iter().any(|node| node.is_own && node.instance() == Some(instance)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Forgets one, also as the one in use.
    pub fn remove(&self, name: &Name) -> Result<(), StoreError> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(|source| StoreError::Write { path, source })?;
        self.forget_use(name)
    }

    /// The name of the builder or instance that is used where none is named.
    pub fn in_use(&self) -> Result<Option<Name>, StoreError> {
        let text = read(&self.directory.join(IN_USE))?;
        // A name that cannot be one is as good as none.
        Ok(text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()))
    }

    pub fn set_in_use(&self, name: &Name) -> Result<(), StoreError> {
        let path = self.directory.join(IN_USE);
        self.write(&path, name.as_str().as_bytes()).map_err(|source| StoreError::Write { path, source })
    }

    /// For something of this name that is no more.
    pub fn forget_use(&self, name: &Name) -> Result<(), StoreError> {
        if self.in_use()?.as_ref() != Some(name) {
            return Ok(());
        }
        let path = self.directory.join(IN_USE);
        std::fs::remove_file(&path).map_err(|source| StoreError::Write { path, source })
    }

    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        file::replace(path, text)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builders::{Address, Keys};

    #[test]
    fn what_is_kept_is_what_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let builders = Builders::at(&Home::below(directory.path()));
        let name: Name = "many".parse().unwrap();
        assert!(builders.names().is_empty() && builders.load(&name).unwrap().is_none());
        let mut many = Builder::of(name.clone(), "tcp://host:1".parse().unwrap());
        many.nodes[0].tls =
            Some(Keys { cacert: "/ca.pem".into(), cert: None, key: None, servername: Some("b".into()) });
        many.nodes[0].platforms = vec!["linux/arm/v7".parse().unwrap()];
        let own = Address::Instance("many1".parse().unwrap());
        many.nodes.push(super::super::Node {
            is_own: true,
            ..Builder::of("many1".parse().unwrap(), own).nodes.remove(0)
        });
        builders.save(&many).unwrap();
        assert_eq!(builders.load(&name).unwrap(), Some(many));
        assert_eq!(builders.names(), std::slice::from_ref(&name));
        assert_eq!(builders.owner(&"many1".parse().unwrap()).unwrap(), Some(name.clone()));
        assert_eq!(builders.owner(&name).unwrap(), None);

        assert_eq!(builders.in_use().unwrap(), None);
        builders.set_in_use(&name).unwrap();
        builders.forget_use(&"other".parse().unwrap()).unwrap();
        assert_eq!(builders.in_use().unwrap(), Some(name.clone()));
        builders.remove(&name).unwrap();
        assert_eq!((builders.names(), builders.in_use().unwrap()), (Vec::new(), None));
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let builders = Builders::at(&Home::below(directory.path()));
        let name: Name = "x".parse().unwrap();
        std::fs::create_dir_all(&builders.directory).unwrap();
        std::fs::write(builders.path(&name), "{").unwrap();
        let error = builders.load(&name).unwrap_err().to_string();
        assert!(error.contains("x.json\", which remembers a builder; `mvm rm`"), "{error}");
    }
}
