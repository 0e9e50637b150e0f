//! Which ssh agents a step may ask, as `docker buildx build` reads `--ssh`.

use std::path::PathBuf;
use std::str::FromStr;

/// The agent that a step asks when it names none.
pub(in crate::builder) const DEFAULT: &str = "default";
/// Where OpenSSH's programs find the user's agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// `default | ID[=SOCKET | =KEY[,KEY...]][,raw=true]`. Without a path it is the user's own agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    pub(in crate::builder) id: String,
    /// One socket, or files of private keys.
    pub(in crate::builder) paths: Vec<PathBuf>,
    /// The socket is no agent's, so everything passes.
    pub(in crate::builder) is_raw: bool,
}

impl Ssh {
    /// The user's own agent, under the name that nobody has to give.
    pub(in crate::builder) fn of_user() -> Result<Self, String> {
        DEFAULT.parse()
    }
}

impl FromStr for Ssh {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, rest) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() || id.contains(',') {
            return Err(format!("{text:?} is no ssh agent; write ID, ID=SOCKET or ID=KEY"));
        }
        let (mut paths, mut is_raw) = (Vec::new(), false);
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("raw", "true")) => is_raw = true,
                Some(("raw", "false")) => {}
                Some(("raw", other)) => return Err(format!("{text:?}: raw is true or false, not {other:?}")),
                _ => paths.push(PathBuf::from(part)),
            }
        }
        if paths.is_empty() {
            let of_user = std::env::var_os(AGENT).filter(|path| !path.is_empty());
            paths.push(of_user.map(PathBuf::from).ok_or_else(|| {
                format!("{text:?} means your ssh agent, but {AGENT} is not set; start one (`eval \"$(ssh-agent)\"`), or name a key")
            })?);
        }
        if is_raw && paths.len() > 1 {
            return Err(format!("{text:?}: raw=true takes one socket"));
        }
        Ok(Self { id: id.to_owned(), paths, is_raw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        let ssh = |id: &str, paths: &[&str], is_raw| Ssh {
            id: id.to_owned(),
            paths: paths.iter().map(PathBuf::from).collect(),
            is_raw,
        };
        assert_eq!("default=/a".parse(), Ok(ssh("default", &["/a"], false)));
        assert_eq!("git=k1,k2,raw=false".parse(), Ok(ssh("git", &["k1", "k2"], false)));
        assert_eq!("x=/s=1,raw=true".parse(), Ok(ssh("x", &["/s=1"], true)));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("", "\"\" is no ssh agent; write ID, ID=SOCKET or ID=KEY"),
            ("=x", "is no ssh agent"),
            ("a=/s,raw=yes", "\"a=/s,raw=yes\": raw is true or false, not \"yes\""),
            ("a=/s,/t,raw=true", "raw=true takes one socket"),
        ] {
            let error = text.parse::<Ssh>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
