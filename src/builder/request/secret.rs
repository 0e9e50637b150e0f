//! What a step may read and no image keeps, as `docker buildx build` reads `--secret`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::fields::fields;

/// What BuildKit takes.
const LARGEST: u64 = 500 * 1024;

/// `id=ID[,src=FILE | ,env=VARIABLE]`. Where neither is given, the variable called ID, or else the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub(in crate::builder) id: String,
    origin: Origin,
}

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
    #[error("the variable {0}, which --secret names, is not set")]
    Unset(String),
}

impl Secret {
    /// Its contents, as they are now.
    pub(in crate::builder) fn read(&self) -> Result<Vec<u8>, SecretError> {
        match &self.origin {
            Origin::File(path) => read(path),
            Origin::Variable(name) => variable(name).ok_or_else(|| SecretError::Unset(name.clone())),
            Origin::Either(id) => variable(id).map_or_else(|| read(Path::new(id)), Ok),
        }
    }
}

fn variable(name: &str) -> Option<Vec<u8>> {
    Some(std::env::var_os(name)?.into_encoded_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    std::fs::read(path).map_err(failed)
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
        Ok(Self { id, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, origin: Origin) -> Secret {
        Secret { id: id.to_owned(), origin }
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
        std::fs::write(&path, vec![0; 500 * 1024 + 1]).unwrap();
        let errors = [
            (Origin::Either(path.display().to_string()), "is larger than the 500 KiB that a secret may have"),
            (Origin::File(directory.path().join("none")), "none\", which --secret names"),
            (
                Origin::Variable("MVM_SURELY_UNSET".to_owned()),
                "MVM_SURELY_UNSET, which --secret names, is not set",
            ),
        ];
        for (origin, wanted) in errors {
            let error = secret("a", origin).read().unwrap_err().to_string();
            assert!(error.ends_with(wanted), "{error}");
        }
    }
}
