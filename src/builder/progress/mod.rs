//! How a build goes on, from the daemon's updates: `graph` collects them; `tty` draws them, `plain` prints them, `rawjson` passes them
//! on.

mod graph;
mod plain;
mod rawjson;
mod room;
mod transfer;
mod tty;
mod warning;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

pub use graph::Graph;
pub(super) use graph::Step;
pub use plain::Plain;
pub use rawjson::RawJson;
pub use tty::Tty;

use super::solve::Observer;

/// Who shows a build to its user.
pub trait Display: Observer {
    /// The steps as they are known now, for what is to be said of them at the end.
    fn graph(&self) -> &Graph;
}

/// Prints nothing while the build goes well, but remembers what is needed when it does not.
#[derive(Debug, Default)]
pub struct Quiet(Graph);

impl Observer for Quiet {
    fn update(&mut self, status: &StatusResponse) {
        self.0.update(status);
    }

    fn note(&mut self, _: &str) {}

    fn end(&mut self) {}
}

impl Display for Quiet {
    fn graph(&self) -> &Graph {
        &self.0
    }
}
