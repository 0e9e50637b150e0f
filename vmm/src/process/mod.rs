//! The process of one machine: receives its orders from the supervisor, runs the machine, and reports how it ended.
//!
//! The main thread waits for events; one more reads orders; the rest are the engine's. When the supervisor's socket
//! closes, for whatever reason, the machine ends.

#[cfg(target_os = "linux")]
mod emulated;
mod native;
#[cfg(not(target_os = "linux"))]
mod not_emulated;
#[cfg(not(target_os = "linux"))]
use not_emulated as emulated;
mod orders;

use std::sync::mpsc;

use self::orders::Supervisor;
use crate::control::{Channel, ChannelError, ChannelReader, Engine, Outcome};
use crate::engine;
use crate::platform;

/// The guest's context id: one machine has one guest, so it never varies.
const GUEST_CID: u32 = 3;

/// Why there was no machine to report the end of.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("the supervisor sent no start")]
    NoStart,
    #[error("cannot talk to the supervisor")]
    Channel(#[from] ChannelError),
}

/// Runs one machine from its start to its end; returns the outcome that was also reported. Has to be called from the
/// main thread, and before there is another.
pub fn run(channel: (Channel, ChannelReader)) -> Result<Outcome, ProcessError> {
    let mut supervisor = Supervisor::new(channel);
    let (config, network) = supervisor.start()?;
    allow_many_descriptors();
    let outcome = match &config.engine {
        Engine::Tcg { command } => {
            emulated::run(command, &config, network, &mut supervisor).unwrap_or_else(|error| failed(&error))
        }
        Engine::Kvm => native::run(&config, network, &mut supervisor).unwrap_or_else(|error| failed(&error)),
    };
    supervisor.say_how_it_ended(&outcome);
    Ok(outcome)
}

impl From<engine::Outcome> for Outcome {
    fn from(outcome: engine::Outcome) -> Self {
        match outcome {
            engine::Outcome::PoweredOff => Self::PoweredOff,
            engine::Outcome::Stopped => Self::Killed,
            engine::Outcome::Reset => Self::Reset,
            engine::Outcome::Failed(why) => Self::Failed(why),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Outcome {
    Outcome::Failed(with_causes(error))
}

/// Makes an event of whatever is told. That nobody waits for it any more is no news.
fn tell<T, E>(
    events: &mpsc::Sender<E>,
    event: fn(T) -> E,
) -> impl Fn(T) + Clone + Send + Sync + use<T, E> + 'static
where
    T: 'static,
    E: Send + 'static,
{
    let events = events.clone();
    move |told| drop(events.send(event(told)))
}

/// Each connection is a descriptor, and the usual limit of 1024 is kept for programs that use `select`; we do not.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: platform::most_descriptors(limit.maximum), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open descriptors stays as it is");
    }
}

/// An error and its causes in one sentence.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
