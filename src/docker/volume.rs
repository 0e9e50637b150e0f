//! `-v NAME:/PATH[:ro]`: a directory of a container that outlives it.

use std::str::FromStr;

/// A volume of the builder's, by its name, or one without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    name: Option<String>,
    path: String,
    is_read_only: bool,
}

/// Not a volume.
#[derive(Debug, thiserror::Error)]
pub enum InvalidVolume {
    #[error("{0:?} is no volume: write NAME:/PATH, NAME:/PATH:ro, or /PATH for one without a name")]
    Malformed(String),
    #[error(
        "{0:?} is a directory of this machine, which the guest does not see; name a volume (NAME:/PATH), or bring the files in with a build"
    )]
    OfThisMachine(String),
}

impl Volume {
    /// As `HostConfig.Binds` has it; one without a name is none of them.
    pub(super) fn bind(&self) -> Option<String> {
        let suffix = if self.is_read_only { ":ro" } else { "" };
        self.name.as_ref().map(|name| format!("{name}:{}{suffix}", self.path))
    }

    /// The path of one without a name.
    pub(super) fn anonymous(&self) -> Option<&str> {
        self.name.is_none().then_some(&self.path)
    }
}

impl FromStr for Volume {
    type Err = InvalidVolume;

    fn from_str(text: &str) -> Result<Self, InvalidVolume> {
        let malformed = || InvalidVolume::Malformed(text.to_owned());
        let mut parts = text.split(':');
        let (first, path, options) = (parts.next(), parts.next(), parts.next());
        let is_read_only = match options {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err(malformed()),
        };
        let (name, path) = match (first, path) {
            (Some(path), None) => (None, path),
            (Some(name), Some(path)) => (Some(name), path),
            (None, _) => return Err(malformed()),
        };
        if parts.next().is_some() || !path.starts_with('/') || path.len() < 2 {
            return Err(malformed());
        }
        match name {
            Some(name) if name.starts_with(['/', '.', '~']) => {
                Err(InvalidVolume::OfThisMachine(name.to_owned()))
            }
            // A volume's name as the daemon takes it (moby `volume.go`).
            Some(name)
                if name.len() < 2
                    || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
                    || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) =>
            {
                Err(malformed())
            }
            name => Ok(Self { name: name.map(str::to_owned), path: path.to_owned(), is_read_only }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_names_or_none() {
        let volume = |text: &str| text.parse::<Volume>().unwrap();
        assert_eq!(volume("data:/srv").bind().as_deref(), Some("data:/srv"));
        assert_eq!(volume("data:/srv:rw").bind().as_deref(), Some("data:/srv"));
        assert_eq!(volume("da.ta:/srv/x:ro").bind().as_deref(), Some("da.ta:/srv/x:ro"));
        assert_eq!((volume("/srv").bind(), volume("/srv").anonymous()), (None, Some("/srv")));
        for wrong in ["", "x", "data:srv", "data:/srv:z", "data:/srv:ro:x", "a b:/srv", "data:/", "-x:/srv"] {
            let error = wrong.parse::<Volume>().unwrap_err().to_string();
            assert!(error.contains("is no volume: write NAME:/PATH"), "{error}");
        }
        for here in ["/home:/srv", "./x:/srv", "~/x:/srv", "..:/srv"] {
            let error = here.parse::<Volume>().unwrap_err().to_string();
            assert!(
                error.contains("is a directory of this machine, which the guest does not see"),
                "{error}"
            );
        }
    }
}
