//! `config.json`, the OCI runtime specification. runc reads it; init only needs to know a few of its fields and to
//! hand on the rest as it is.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Error;

/// The annotation that names one of init's own applets.
const APPLET: &str = "mvm.applet";

/// A container's `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    document: Map<String, Value>,
    args: Vec<String>,
}

impl Spec {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let document: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
        let words = |list: &Vec<Value>| list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
        let args = document.get("process").and_then(|process| process.get("args")).and_then(Value::as_array);
        let args = args.and_then(words).ok_or_else(|| Error::NoArgs { path: path.to_owned() })?;
        Ok(Self { document, args })
    }

    /// The program and its arguments.
    pub(crate) fn args(&self) -> &[String] {
        &self.args
    }

    /// The applet that the container's program is, if it is one.
    pub(crate) fn applet(&self) -> Option<&str> {
        self.document.get("annotations")?.get(APPLET)?.as_str()
    }

    /// `root.path`, relative to the bundle unless absolute.
    pub(super) fn root_path(&self) -> PathBuf {
        let path = self.document.get("root").and_then(|root| root.get("path")).and_then(Value::as_str);
        PathBuf::from(path.unwrap_or("rootfs"))
    }

    /// Whether the container sees the guest's own `path` under the same name.
    pub(crate) fn shares(&self, path: &Path) -> bool {
        let field = |mount: &Value, key| mount.get(key).and_then(Value::as_str).map(PathBuf::from);
        let mounts = self.document.get("mounts").and_then(Value::as_array);
        mounts.into_iter().flatten().any(|mount| {
            let (source, destination) = (field(mount, "source"), field(mount, "destination"));
            source.is_some() && source == destination && destination.is_some_and(|at| path.starts_with(at))
        })
    }

    /// The document for a bundle elsewhere: the root absolute, no terminal (output is captured), and more variables.
    pub(super) fn relocated(&self, rootfs: &Path, env: &[String]) -> Value {
        let mut document = self.document.clone();
        let root = document.entry("root").or_insert_with(|| Value::Object(Map::new()));
        if let Some(root) = root.as_object_mut() {
            root.insert("path".to_owned(), Value::from(rootfs.to_string_lossy()));
        }
        if let Some(process) = document.get_mut("process").and_then(Value::as_object_mut) {
            process.insert("terminal".to_owned(), Value::Bool(false));
            let variables = process.entry("env").or_insert_with(|| Value::Array(Vec::new()));
            if variables.is_null() {
                *variables = Value::Array(Vec::new());
            }
            if let Some(variables) = variables.as_array_mut() {
                variables.extend(env.iter().map(|variable| Value::from(variable.as_str())));
            }
        }
        Value::Object(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<Spec, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Spec::read(&path)
    }

    const MOBY: &str = r#"{"ociVersion":"1.2.0","process":{"args":["dockerd","-H","unix:///run/docker.sock"],
        "terminal":true,"env":["A=1"]},"root":{"path":"rootfs","readonly":true},
        "mounts":[{"destination":"/run","type":"bind","source":"/run"}],"annotations":{"mvm.applet":"mount"}}"#;

    #[test]
    fn the_fields_that_init_needs_are_found() {
        let spec = spec(MOBY).unwrap();
        assert_eq!(spec.args()[0], "dockerd");
        assert_eq!(spec.applet(), Some("mount"));
        assert_eq!(spec.root_path(), Path::new("rootfs"));
        assert!(spec.shares(Path::new("/run/mvm/notify")));
        assert!(!spec.shares(Path::new("/running")));
    }

    #[test]
    fn a_relocated_document_keeps_everything_else() {
        let value = spec(MOBY).unwrap().relocated(Path::new("/c/rootfs"), &["B=2".to_owned()]);
        assert_eq!(value["root"]["path"], "/c/rootfs");
        assert_eq!(value["root"]["readonly"], true);
        assert_eq!(value["process"]["env"], serde_json::json!(["A=1", "B=2"]));
        assert_eq!(value["process"]["terminal"], false);
        assert_eq!(value["ociVersion"], "1.2.0");
    }

    #[test]
    fn a_document_without_a_program_is_refused() {
        let error = spec(r#"{"process":{"args":["sh", 1]}}"#).unwrap_err().to_string();
        assert!(error.ends_with("config.json has no list of words in process.args"), "{error}");
        let error = spec("[]").unwrap_err().to_string();
        assert!(error.contains("config.json is not what this init understands"), "{error}");
    }
}
