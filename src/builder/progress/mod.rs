//! How a build goes on, from the daemon's updates: `graph` collects them, `plain` prints them.

mod graph;
mod plain;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

pub use plain::Plain;

use super::failure::Failure;
use super::solve::Observer;

/// Prints nothing while the build goes well, but remembers what is needed when it does not.
#[derive(Debug, Default)]
pub struct Quiet(graph::Graph);

impl Observer for Quiet {
    fn update(&mut self, status: &StatusResponse) {
        self.0.update(status);
    }

    fn end(&mut self) {}
}

impl Quiet {
    /// What a reader needs to see of a failure: the step, its last words, its place.
    pub fn report(&self, failure: &Failure) -> String {
        self.0.report(failure)
    }
}
