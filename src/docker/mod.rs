//! Runs containers in the guest through its Docker API (moby `api/swagger.yaml`, 1.48 to 1.51), and knows the files of Docker's own
//! client.

mod builder;
mod client_files;
mod container;
mod error;
mod list;
mod ports;
mod pull;
mod run;
mod signals;
mod streams;
mod volume;
mod wait;

pub use builder::Builder;
pub use client_files::{BuildxNode, ClientFileError, ClientFiles};
pub use error::Error;
pub use list::{Image, Listed};
pub use ports::{InvalidPort, PublishedPort};
pub use pull::{PullPolicy, PullWatcher};
pub use run::{Ended, Request, Terminal, run, start_detached};
pub use signals::{Signal, Signals};
pub use volume::{InvalidVolume, Volume};
