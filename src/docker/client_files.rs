//! The files of Docker's client and of buildx that say where builders are (docker/cli `cli/context/store`, docker/buildx `store`):
//! a context is a directory below `contexts/meta/`, named by the hash of its name; a builder a file below `buildx/instances/`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What is said of our own contexts, by which we know them again.
const DESCRIPTION: &str = "mvm";
/// Of whoever points the client elsewhere for a while.
const KEY_IN_USE: &str = "currentContext";

/// Why a file of somebody else's was not changed.
#[derive(Debug, Error)]
pub enum ClientFileError {
    #[error("cannot tell where Docker's client keeps its files: neither DOCKER_CONFIG nor HOME is set")]
    NoHome,
    #[error("there is a context {0} already that mvm has not made; `docker context rm {0}` removes it")]
    NotOurs(String),
    #[error("cannot change {path:?}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where these files are.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    docker: PathBuf,
    buildx: PathBuf,
}

/// A node as buildx has it.
#[derive(Debug, Clone)]
pub struct BuildxNode {
    pub name: String,
    /// `unix://` or `tcp://`.
    pub endpoint: String,
    /// As in linux/arm64.
    pub platforms: Vec<(String, String, Option<String>)>,
    /// `cacert`, `cert`, `key`, `servername`.
    pub options: BTreeMap<String, String>,
}

impl ClientFiles {
    /// By this process's environment, as those programs look for them.
    pub fn from_env() -> Result<Self, ClientFileError> {
        Self::resolve(|key| std::env::var_os(key))
    }

    fn resolve(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ClientFileError> {
        let set = |key: &str| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
        let docker = docker.ok_or(ClientFileError::NoHome)?;
        Ok(Self { buildx: set("BUILDX_CONFIG").unwrap_or_else(|| docker.join("buildx")), docker })
    }

    /// Of a buildx that is given this directory as its own.
    pub fn of_buildx(directory: &Path) -> Self {
        Self { docker: directory.to_owned(), buildx: directory.to_owned() }
    }

    /// The user's own plugins.
    pub fn plugins(&self) -> PathBuf {
        self.docker.join("cli-plugins")
    }

    fn context(&self, name: &str) -> PathBuf {
        self.docker.join("contexts/meta").join(hex(name))
    }

    /// Makes a context, or makes ours of that name anew.
    pub fn write_context(&self, name: &str, host: &str, about: &str) -> Result<(), ClientFileError> {
        let path = self.context(name).join("meta.json");
        if path.exists() && !is_ours(&path) {
            return Err(ClientFileError::NotOurs(name.to_owned()));
        }
        let meta = json!({
            "Name": name,
            "Metadata": { "Description": format!("{DESCRIPTION}: {about}") },
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
        });
        write(&path, &meta)
    }

    /// Makes a builder of nodes that speak BuildKit's own protocol, or makes it anew.
    pub fn write_builder(&self, name: &str, nodes: &[BuildxNode]) -> Result<(), ClientFileError> {
        let platform = |(os, architecture, variant): &(String, String, Option<String>)| {
            let mut platform = json!({ "architecture": architecture, "os": os });
            if let (Some(variant), Some(object)) = (variant, platform.as_object_mut()) {
                object.insert("variant".to_owned(), variant.as_str().into());
            }
            platform
        };
        let node = |node: &BuildxNode| {
            json!({
                "Name": node.name,
                "Endpoint": node.endpoint,
                "Platforms": node.platforms.iter().map(platform).collect::<Vec<_>>(),
                "DriverOpts": node.options,
                "Flags": null,
                "Files": null,
            })
        };
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        let group = json!({ "Name": name, "Driver": "remote", "Nodes": nodes, "Dynamic": false });
        write(&self.buildx.join("instances").join(name), &group)
    }

    /// Has the client use a context where nothing names another.
    pub fn use_context(&self, name: &str) -> Result<(), ClientFileError> {
        // A builder of ours that buildx was told to use would still win.
        let current = self.buildx.join("current");
        let is_ours =
            |found: Map<String, Value>| found.get("Name").and_then(Value::as_str).is_some_and(is_our_builder);
        if read(&current)?.is_some_and(is_ours) {
            std::fs::remove_file(&current).map_err(failed(&current))?;
        }
        self.configure(|configuration| drop(configuration.insert(KEY_IN_USE.to_owned(), name.into())))
    }

    /// Has buildx use a builder, whatever the context is.
    pub fn use_builder(&self, name: &str) -> Result<(), ClientFileError> {
        let current = json!({ "Key": "", "Name": name, "Global": true });
        write(&self.buildx.join("current"), &current)
    }

    /// Takes a context of ours away; false if there is none.
    pub fn remove_context(&self, name: &str) -> Result<bool, ClientFileError> {
        let directory = self.context(name);
        let meta = directory.join("meta.json");
        if !meta.exists() {
            return Ok(false);
        }
        if !is_ours(&meta) {
            return Err(ClientFileError::NotOurs(name.to_owned()));
        }
        std::fs::remove_dir_all(&directory).map_err(failed(&directory))?;
        let is_used = |configuration: &Map<String, Value>| {
            configuration.get(KEY_IN_USE).and_then(Value::as_str) == Some(name)
        };
        if read(&self.configuration())?.is_some_and(|found| is_used(&found)) {
            self.configure(|configuration| drop(configuration.remove(KEY_IN_USE)))?;
        }
        Ok(true)
    }

    /// Takes a builder away, and the choice of it; false if there is none.
    pub fn remove_builder(&self, name: &str) -> Result<bool, ClientFileError> {
        let path = self.buildx.join("instances").join(name);
        if !path.exists() {
            return Ok(false);
        }
        std::fs::remove_file(&path).map_err(failed(&path))?;
        // When it was last used.
        let _ = std::fs::remove_file(self.buildx.join("activity").join(name));
        let current = self.buildx.join("current");
        let is_it = |found: Map<String, Value>| found.get("Name").and_then(Value::as_str) == Some(name);
        if read(&current)?.is_some_and(is_it) {
            std::fs::remove_file(&current).map_err(failed(&current))?;
        }
        Ok(true)
    }

    fn configuration(&self) -> PathBuf {
        self.docker.join("config.json")
    }

    /// Changes the client's configuration, and leaves what it does not know as it was.
    fn configure(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), ClientFileError> {
        let path = self.configuration();
        let mut configuration = read(&path)?.unwrap_or_default();
        change(&mut configuration);
        write(&path, &configuration.into())
    }
}

fn is_our_builder(name: &str) -> bool {
    name.starts_with("mvm") && name.ends_with("-buildkit")
}

fn hex(name: &str) -> String {
    format!("{:x}", Sha256::digest(name))
}

fn is_ours(meta: &Path) -> bool {
    let found = read(meta).ok().flatten();
    let said = found.as_ref().and_then(|found| found.get("Metadata")?.get("Description")?.as_str());
    said.is_some_and(|said| said.starts_with(DESCRIPTION))
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, ClientFileError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// With the permissions that the file had. A new one is for its owner alone: credentials may come into it later.
fn write(path: &Path, value: &Value) -> Result<(), ClientFileError> {
    // What a link leads to is changed, and not the link: configurations are often kept elsewhere.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("/"));
    let replace = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let own = Permissions::from_mode(0o600);
        let permissions = std::fs::metadata(&target).map_or(own, |found| found.permissions());
        let mut builder = tempfile::Builder::new();
        let mut file = builder.prefix(".mvm-").permissions(permissions).tempfile_in(directory)?;
        file.write_all(format!("{value:#}\n").as_bytes())?;
        file.persist(&target)?;
        Ok(())
    };
    replace().map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ClientFileError + use<> {
    let path = path.to_owned();
    move |source| ClientFileError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> ClientFiles {
        let directory = directory.to_owned();
        ClientFiles::resolve(|key| (key == "DOCKER_CONFIG").then(|| directory.clone().into())).unwrap()
    }

    #[test]
    fn what_is_made_goes_again_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let config = directory.path().join("config.json");
        std::fs::write(&config, r#"{"auths": {"x": {}}, "unknown": [1]}"#).unwrap();
        files.write_context("mvm", "unix:///d.sock", "instance default").unwrap();
        files.write_context("mvm", "unix:///e.sock", "instance default").unwrap();
        files.use_context("mvm").unwrap();
        // The name's SHA-256, which Docker's client looks for.
        let meta = directory.path().join("contexts/meta").join(hex("mvm")).join("meta.json");
        let found: Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
        assert_eq!(found["Endpoints"]["docker"]["Host"], "unix:///e.sock");
        let configuration = || -> Value { serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap() };
        assert_eq!(configuration()["currentContext"], "mvm");
        assert!(files.remove_context("mvm").unwrap() && !files.remove_context("mvm").unwrap());
        assert_eq!(configuration(), json!({"auths": {"x": {}}, "unknown": [1]}));

        let node = BuildxNode {
            name: "a".to_owned(),
            endpoint: "unix:///b.sock".to_owned(),
            platforms: vec![("linux".to_owned(), "arm".to_owned(), Some("v7".to_owned()))],
            options: BTreeMap::new(),
        };
        files.write_builder("many", &[node]).unwrap();
        files.use_builder("many").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.path().join("buildx/current")), 0o600);
        let group = directory.path().join("buildx/instances/many");
        let found: Value = serde_json::from_slice(&std::fs::read(&group).unwrap()).unwrap();
        assert_eq!(
            found["Nodes"][0]["Platforms"][0],
            json!({"architecture": "arm", "os": "linux", "variant": "v7"})
        );
        assert!(files.remove_builder("many").unwrap() && !files.remove_builder("many").unwrap());
        assert!(!group.exists() && !directory.path().join("buildx/current").exists());
    }

    #[test]
    fn what_others_have_made_stays() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let meta = directory.path().join("contexts/meta").join(hex("mvm")).join("meta.json");
        std::fs::create_dir_all(meta.parent().unwrap()).unwrap();
        std::fs::write(&meta, r#"{"Name": "mvm", "Metadata": {}}"#).unwrap();
        let error = files.write_context("mvm", "unix:///x", "x").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is a context mvm already that mvm has not made; `docker context rm mvm` removes it"
        );
        assert!(files.remove_context("mvm").is_err() && meta.exists());
        std::fs::write(directory.path().join("config.json"), "{").unwrap();
        let error = files.use_context("x").unwrap_err().to_string();
        assert!(error.starts_with("cannot change ") && error.ends_with("config.json\""), "{error}");
        assert!(ClientFiles::resolve(|_| None).is_err());
    }
}
