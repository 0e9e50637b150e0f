//! What the parts of init share.

use tokio::sync::Notify;

use crate::events::Events;
use crate::kernel_args::{self, NetworkWord};
use crate::logs::Logs;
use crate::process::Children;
use crate::selftest::Platforms;
use crate::services::Services;

/// Everything that the parts of init share.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) events: Events,
    pub(crate) logs: Logs,
    pub(crate) children: Children,
    pub(crate) services: Services,
    pub(crate) platforms: Platforms,
    pub(crate) network: Option<Result<NetworkWord, kernel_args::Error>>,
    /// Somebody wants the machine to stop.
    pub(crate) stop: Notify,
}
