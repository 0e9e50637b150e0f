//! The signals that belong to the container, not to the command that shows it.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use super::Error;

/// A signal that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
    User1,
    User2,
}

impl Signal {
    const ALL: [Self; 6] =
        [Self::Hangup, Self::Interrupt, Self::Quit, Self::Terminate, Self::User1, Self::User2];

    /// As the Docker API takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Terminate => "SIGTERM",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
        }
    }

    /// Whether it asks for the end.
    pub(super) fn ends(self) -> bool {
        !matches!(self, Self::User1 | Self::User2)
    }

    /// What a shell reports for a program that this signal ended.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
            Self::User1 => 138,
            Self::User2 => 140,
        }
    }

    fn kind(self) -> SignalKind {
        match self {
            Self::Hangup => SignalKind::hangup(),
            Self::Interrupt => SignalKind::interrupt(),
            Self::Quit => SignalKind::quit(),
            Self::Terminate => SignalKind::terminate(),
            Self::User1 => SignalKind::user_defined1(),
            Self::User2 => SignalKind::user_defined2(),
        }
    }
}

/// Takes those signals over from the system, from its making on.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, Listener)>);

impl Signals {
    pub fn listen() -> Result<Self, Error> {
        let listeners = Signal::ALL.into_iter().map(|kind| Ok((kind, signal(kind.kind())?)));
        Ok(Self(listeners.collect::<Result<_, _>>().map_err(Error::Signals)?))
    }

    /// The next one. May be dropped at any time; no signal is lost by it.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (kind, listener) in &mut self.0 {
                if let Poll::Ready(Some(())) = listener.poll_recv(context) {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next one that asks for the end.
    pub(super) async fn next_end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if signal.ends() {
                return signal;
            }
        }
    }
}

/// The terminal has another size.
#[derive(Debug)]
pub(super) struct WindowChanges(Listener);

impl WindowChanges {
    pub(super) fn listen() -> Result<Self, Error> {
        Ok(Self(signal(SignalKind::window_change()).map_err(Error::Signals)?))
    }

    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}
