//! `mvm tidy`: waits for the end of its standard input, and removes the instance of a job: that of `mvm ci`, which may be killed.

use tokio::io::AsyncReadExt;

use super::{Context, Failure, down, rm};

#[derive(Debug, thiserror::Error)]
#[error("{0} was not made for a job, and stays; `mvm rm` removes instances")]
struct NoJob(crate::instance::Name);

pub async fn run(context: &Context) -> Result<(), Failure> {
    if !context.paths().job_mark().exists() {
        return Err(Failure::usage(NoJob(context.name.clone())));
    }
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
    // What cannot be stopped is not removed, which says so itself.
    if context.paths().config().exists() {
        let _ = down::stop_quietly(context, &context.name).await;
    }
    rm::instance(context, &context.name)
}
