//! `mvm supervise`: what `mvm up` starts, and nobody types.

use tracing_subscriber::EnvFilter;

use super::Context;
use crate::supervisor;

pub async fn run(context: &Context) {
    log_to_stderr();
    supervisor::main(&context.home, &context.name).await;
}

/// `MVM_LOG` says how much: `info` where it is not set.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MVM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
