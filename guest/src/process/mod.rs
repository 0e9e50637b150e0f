//! Processes of the guest: started with their output captured, and waited for by one reaper.

mod capture;
mod piped;
mod reaper;
mod spawn;

pub(crate) use capture::capture;
pub(crate) use piped::Piped;
pub(crate) use reaper::{Children, Exit, reap_forever};
pub(crate) use spawn::{Program, SpawnError};
