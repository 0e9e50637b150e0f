//! Starts that are left.
//!
//! Under QEMU 10 a kernel now and then does not come to its first word, on a busy host. It panics, for while it patches its own code
//! one processor still meets a breakpoint that the other has replaced; or it stands still, for an interrupt that it waits for is lost
//! (QEMU notes one without a lock or an atomic operation), or, where it is none of ours, for its timer was measured while the
//! measuring processor was put aside (`images/components/kernel/patches`). Such a machine is ended, and started again.

use std::time::Duration;

use vmm::control::Engine;

/// How long QEMU's guest may take to its first word, but for the last time: a kernel is at init after seconds, also on a busy host.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(60);
/// How often a guest of QEMU's is started again. What is wrong with a root resets every machine, and is to be told soon; that one
/// stands still comes of the host's load, and may come again as long as that lasts.
pub(super) const AGAIN: Again = Again { after_reset: 1, after_silence: 3 };

/// By what ended the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Again {
    pub after_reset: u32,
    pub after_silence: u32,
}

impl Again {
    pub(super) fn on(engine: &Engine) -> Self {
        if matches!(engine, Engine::Tcg { .. }) { AGAIN } else { Self::default() }
    }

    /// What happened, and what is left, if anything was, after a guest that reset itself before its first word.
    pub(super) fn after_reset(self) -> Option<(String, Self)> {
        let left = Self { after_reset: self.after_reset.checked_sub(1)?, ..self };
        Some(("reset itself before its first word".to_owned(), left))
    }

    /// The same after one that was ended because it said none.
    pub(super) fn after_silence(self) -> Option<(String, Self)> {
        let left = Self { after_silence: self.after_silence.checked_sub(1)?, ..self };
        Some((format!("has said nothing for {} s", FIRST_WORD.as_secs()), left))
    }
}
