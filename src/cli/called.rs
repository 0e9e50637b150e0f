//! What a name means where it may be a builder's, an instance's or a container's.

use std::time::Duration;

use super::{Context, Failure, ps};
use crate::builders::Builders;
use crate::docker;
use crate::instance::Name;

/// How long the daemon may take to say whether it has a container: a machine that hangs can be stopped nevertheless.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has a name.
pub(super) enum Called {
    Builder(Name),
    Instance(Name),
    Container(docker::Builder, String),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "no instance, no builder and no container is named {0}; `mvm ls` and `mvm ps --all` show which there are"
    )]
    Nothing(String),
    #[error(
        "{0} is the name of a container and of {1}; call the container by its id (`mvm ps --all --json`), or remove it first"
    )]
    Both(String, &'static str),
    #[error("{0} is the name of {1}; call the container otherwise")]
    Taken(String, &'static str),
}

impl Called {
    /// The only one that has this name.
    pub(super) async fn by(context: &Context, name: &str) -> Result<Self, Failure> {
        let ours = Self::ours(context, name);
        let container = tokio::time::timeout(PATIENCE, container(context, name)).await.ok().flatten();
        match (ours, container) {
            (Some(ours), None) => Ok(ours),
            (None, Some(daemon)) => Ok(Self::Container(daemon, name.to_owned())),
            (Some(ours), Some(_)) => Err(Failure::usage(Error::Both(name.to_owned(), ours.kind()))),
            (None, None) => Err(Failure::usage(Error::Nothing(name.to_owned()))),
        }
    }

    fn ours(context: &Context, name: &str) -> Option<Self> {
        let name = name.parse::<Name>().ok()?;
        if Builders::at(&context.home).exists(&name) {
            return Some(Self::Builder(name));
        }
        context.home.instance(&name).directory().exists().then_some(Self::Instance(name))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Builder(_) => "a builder",
            Self::Instance(_) => "an instance",
            Self::Container(..) => "a container",
        }
    }
}

/// Refuses a container's name that means something else already.
pub(super) fn check_free(context: &Context, name: &str) -> Result<(), Failure> {
    match Called::ours(context, name) {
        Some(ours) => Err(Failure::usage(Error::Taken(name.to_owned(), ours.kind()))),
        None => Ok(()),
    }
}

/// The daemon that has a container of this name, if there is a machine that could.
async fn container(context: &Context, name: &str) -> Option<docker::Builder> {
    let daemon = ps::containers(context).await.ok()?;
    daemon.has_container(name).await.is_ok_and(|has| has).then_some(daemon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builders::{Address, Builder};

    #[test]
    fn a_container_has_no_name_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let context = crate::cli::tests::context(&directory);
        let address: Address = "tcp://host:1".parse().unwrap();
        Builders::at(&context.home).save(&Builder::of("many".parse().unwrap(), address)).unwrap();
        let refused = |name: &str| match check_free(&context, name) {
            Err(Failure::Usage(error)) => Some(error.to_string()),
            _ => None,
        };
        assert_eq!(refused("web"), None);
        assert_eq!(refused("No Name"), None);
        let taken = |what: &str| Some(format!("{what}; call the container otherwise"));
        assert_eq!(refused("many"), taken("many is the name of a builder"));
        assert_eq!(refused("other"), taken("other is the name of an instance"));
    }
}
