//! What a step may read and no image keeps, as `docker buildx build` reads `--secret`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::fields::fields;

/// What BuildKit takes.
const LARGEST: u64 = 500 * 1024;

/// `id=ID[,src=FILE | ,env=VARIABLE]`. Where neither is given, the variable called ID, or else the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub(in crate::builder) id: String,
    origin: Origin,
    kept: Kept,
}

/// What was read: a pipe has it only once, and all nodes of a builder are to have the same.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Vec<u8>>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// It says nothing of which secret is meant.
impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Variable(String),
    Either(String),
}

/// A secret that cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    #[error("cannot read {path:?}, which --secret names")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0:?}, which --secret names, is larger than the 500 KiB that a secret may have")]
    TooLarge(PathBuf),
}

impl Secret {
    /// Its contents, as they were when they were first asked for.
    pub(in crate::builder) fn read(&self) -> Result<Vec<u8>, SecretError> {
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contents) = &*kept {
            return Ok(contents.clone());
        }
        let contents = match &self.origin {
            Origin::File(path) => read(path),
            // As buildx has it: what a job may have or not is a variable.
            Origin::Variable(name) => Ok(variable(name).unwrap_or_default()),
            Origin::Either(id) => variable(id).map_or_else(|| read(Path::new(id)), Ok),
        }?;
        Ok(kept.insert(contents).clone())
    }
}

fn variable(name: &str) -> Option<Vec<u8>> {
    Some(std::env::var_os(name)?.into_encoded_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let mut contents = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST.saturating_add(1)).read_to_end(&mut contents).map_err(failed)?;
    if contents.len() as u64 > LARGEST { Err(SecretError::TooLarge(path.to_owned())) } else { Ok(contents) }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no secret; write id=ID, with src=FILE or env=VARIABLE behind it");
        let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
        for (key, value) in fields(text)? {
            let value = value.filter(|value| !value.is_empty()).ok_or_else(wrong)?;
            let place = match key.as_str() {
                "id" => &mut id,
                "type" => &mut kind,
                "src" | "source" => &mut file,
                "env" => &mut variable,
                other => return Err(format!("a secret has no {other:?}; it has id, src, env and type")),
            };
            *place = Some(value);
        }
        let id = id.ok_or_else(wrong)?;
        let origin = match (kind.as_deref(), file, variable) {
            (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => {
                Origin::Variable(name)
            }
            (None | Some("file"), Some(path), None) => Origin::File(path.into()),
            (None, None, None) => Origin::Either(id.clone()),
            (Some("file"), None, None) => Origin::File(id.clone().into()),
            (Some("env"), None, None) => Origin::Variable(id.clone()),
            _ => return Err(wrong()),
        };
        Ok(Self { id, origin, kept: Kept::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, origin: Origin) -> Secret {
        Secret { id: id.to_owned(), origin, kept: Kept::default() }
    }

    #[test]
    fn every_spelling_is_understood() {
        let file = || secret("a", Origin::File("f,g".into()));
        for text in ["id=a,\"src=f,g\"", "type=file,id=a,\"source=f,g\""] {
            assert_eq!(text.parse(), Ok(file()), "{text}");
        }
        let variable = || secret("a", Origin::Variable("V".to_owned()));
        for text in ["id=a,env=V", "type=env,id=a,src=V", "id=a,type=env,env=V"] {
            assert_eq!(text.parse(), Ok(variable()), "{text}");
        }
        assert_eq!("id=a".parse(), Ok(secret("a", Origin::Either("a".to_owned()))));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("src=f", "\"src=f\" is no secret; write id=ID, with src=FILE or env=VARIABLE behind it"),
            ("a", "\"a\" is no secret"),
            ("id=a,src=f,env=V", "is no secret"),
            ("id=a,type=other", "is no secret"),
            ("id=a,mode=0400", "a secret has no \"mode\"; it has id, src, env and type"),
        ] {
            let error = text.parse::<Secret>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn contents_come_from_files_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, b"\xff\n").unwrap();
        assert_eq!(secret("a", Origin::File(path.clone())).read().unwrap(), b"\xff\n");
        assert_eq!(
            secret("a", Origin::Variable("PATH".to_owned())).read().unwrap(),
            variable("PATH").unwrap()
        );
        assert_eq!(secret("a", Origin::Either("PATH".to_owned())).read().unwrap(), variable("PATH").unwrap());
        let unset = secret("a", Origin::Variable("MVM_SURELY_UNSET".to_owned()));
        assert_eq!(unset.read().unwrap(), b"", "as buildx has it");
        let twice = secret("a", Origin::File(path.clone()));
        twice.read().unwrap();
        std::fs::write(&path, vec![0; 500 * 1024 + 1]).unwrap();
        assert_eq!(twice.read().unwrap(), b"\xff\n", "a pipe would be empty by now");
        assert!(!format!("{twice:?}").contains("255"), "{twice:?}");
        let errors = [
            (Origin::Either(path.display().to_string()), "is larger than the 500 KiB that a secret may have"),
            (Origin::File(directory.path().join("none")), "none\", which --secret names"),
        ];
        for (origin, wanted) in errors {
            let error = secret("a", origin).read().unwrap_err().to_string();
            assert!(error.ends_with(wanted), "{error}");
        }
    }
}
