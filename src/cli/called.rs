//! What a name means where it may be a builder's, an instance's or a container's.

use std::time::Duration;

use super::run::explain;
use super::{Context, Failure, ps};
use crate::builders::Builders;
use crate::docker;
use crate::instance::Name;

/// How long the daemon may take to say whether it has a container.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where a machine is to be stopped: it may hang.
const PATIENCE_TO_STOP: Duration = Duration::from_secs(15);

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
    #[error("the machine runs and does not say whether it has a container named {0}; `mvm down` stops it")]
    Silent(String),
}

impl Called {
    /// The only one that has this name.
    pub(super) async fn by(context: &Context, name: &str) -> Result<Self, Failure> {
        let container = container(context, name, PATIENCE).await;
        Self::only(name, Self::ours(context, name), container)
    }

    /// The same, to be stopped: a builder or an instance also while nobody says whether there is such a container.
    pub(super) async fn to_stop(context: &Context, name: &str) -> Result<Self, Failure> {
        let ours = Self::ours(context, name);
        let patience = if ours.is_some() { PATIENCE_TO_STOP } else { PATIENCE };
        match (ours, container(context, name, patience).await) {
            (Some(ours), Err(_)) => Ok(ours),
            (ours, container) => Self::only(name, ours, container),
        }
    }

    fn only(
        name: &str,
        ours: Option<Self>,
        container: Result<Option<docker::Builder>, Failure>,
    ) -> Result<Self, Failure> {
        match (ours, container) {
            (Some(ours), Ok(Some(_))) => Err(Failure::usage(Error::Both(name.to_owned(), ours.kind()))),
            // No machine, or none that mvm speaks to, has no containers.
            (Some(ours), Ok(None) | Err(Failure::NoMachine(_) | Failure::Usage(_))) => Ok(ours),
            (None, Ok(Some(daemon))) => Ok(Self::Container(daemon, name.to_owned())),
            (None, Ok(None)) => Err(Failure::usage(Error::Nothing(name.to_owned()))),
            (_, Err(failure)) => Err(failure),
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

/// The daemon that is meant, if it has a container of this name.
async fn container(
    context: &Context,
    name: &str,
    patience: Duration,
) -> Result<Option<docker::Builder>, Failure> {
    let asked = async {
        let daemon = ps::containers(context).await?;
        Ok(daemon.has_container(name).await.map_err(explain)?.then_some(daemon))
    };
    let answer = tokio::time::timeout(patience, asked).await;
    answer.unwrap_or_else(|_| Err(Error::Silent(name.to_owned()).into()))
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

    #[test]
    fn who_cannot_be_asked_is_not_who_has_none() {
        let ours = || Some(Called::Instance("web".parse().unwrap()));
        let silent = || Err(Error::Silent("web".to_owned()).into());
        let none = || Err(Failure::no_machine("none runs"));
        assert!(matches!(Called::only("web", ours(), Ok(None)), Ok(Called::Instance(_))));
        assert!(matches!(Called::only("web", ours(), none()), Ok(Called::Instance(_))));
        assert!(matches!(Called::only("web", ours(), silent()), Err(Failure::Failed(_))));
        assert!(matches!(Called::only("web", None, Ok(None)), Err(Failure::Usage(_))));
        assert!(matches!(Called::only("web", None, none()), Err(Failure::NoMachine(_))));
        assert!(matches!(Called::only("web", None, silent()), Err(Failure::Failed(_))));
    }

    #[tokio::test]
    async fn without_a_machine_a_name_may_be_an_instances() {
        let directory = tempfile::tempdir().unwrap();
        let context = crate::cli::tests::context(&directory);
        for name in ["default", "other"] {
            assert!(matches!(Called::by(&context, name).await, Ok(Called::Instance(_))));
        }
        assert!(matches!(Called::by(&context, "web").await, Err(Failure::NoMachine(_))));
        assert!(matches!(Called::to_stop(&context, "web").await, Err(Failure::NoMachine(_))));
    }
}
