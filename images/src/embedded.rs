//! The definition and the lock that this program was built with.

/// `linuxkit.yml`.
pub(crate) const DEFINITION: &str = include_str!("../../linuxkit.yml");
/// `linuxkit.lock`.
pub(crate) const LOCK: &str = include_str!("../../linuxkit.lock");
