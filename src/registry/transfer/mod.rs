//! Images between a registry and the layout of this machine (OCI distribution 1.1, "Pull" and "Push").

mod patience;
mod pull;
mod push;

use std::sync::{Mutex, PoisonError};

use images::progress::{Progress, Stage, Unit};
use oci_spec::image::Descriptor;

pub(super) use patience::{Patience, may_pass};
pub use pull::{Pull, PullError};
pub use push::{Push, PushError};

/// How many contents are on their way at once.
pub(super) const AT_ONCE: usize = 4;

/// How many bytes have been transferred, of how many.
struct Tally<'a> {
    stage: Stage<'a>,
    done: Mutex<u64>,
}

impl<'a> Tally<'a> {
    fn of(contents: &[Descriptor], title: &'a str, progress: &'a dyn Progress) -> Self {
        let total = contents.iter().fold(0, |sum: u64, content| sum.saturating_add(content.size()));
        Self { stage: Stage::start(progress, title, Some(total), Unit::Bytes), done: Mutex::default() }
    }

    fn add(&self, bytes: u64) {
        self.set(|done| done.saturating_add(bytes));
    }

    /// What came has to come once more.
    fn take_back(&self, bytes: u64) {
        self.set(|done| done.saturating_sub(bytes));
    }

    fn end(self) {
        self.stage.end();
    }

    fn set(&self, change: impl Fn(u64) -> u64) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = change(*done);
        self.stage.advance(*done);
    }
}
