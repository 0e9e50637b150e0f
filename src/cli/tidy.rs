//! `mvm tidy`: waits for the end of its standard input, and removes the instance. That of `mvm ci`, which may be killed.

use tokio::io::AsyncReadExt;

use super::{Context, down, rm};

pub async fn run(context: &Context) {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
    if !context.paths().directory().exists() {
        return;
    }
    // What cannot be stopped is not removed, which says so itself.
    if context.paths().config().exists() {
        let _ = down::stop_quietly(context, &context.name).await;
    }
    if let Err(failure) = rm::instance(context, &context.name) {
        failure.report();
    }
}
