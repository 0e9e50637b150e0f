//! Processes of the guest: started with their output captured, and waited for by one reaper.

mod capture;
mod piped;
mod reaper;
mod spawn;

pub(crate) use capture::capture;
pub(crate) use piped::Piped;
#[cfg(test)]
pub(crate) use reaper::reaper_of_a_test;
pub(crate) use reaper::{Children, Exit, reap_forever};
pub(crate) use spawn::{Program, SpawnError};
