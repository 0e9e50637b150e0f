//! `mvm dial-stdio`: the builder of an instance at standard input and output, for ssh from another host.

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{Context, Failure};

#[derive(Debug, thiserror::Error)]
#[error(
    "no builder answers at {socket:?}; start it with `mvm inspect --bootstrap`, or with `mvm up` over there"
)]
struct NobodyThere {
    socket: std::path::PathBuf,
    #[source]
    source: std::io::Error,
}

pub async fn run(context: &Context) -> Result<(), Failure> {
    let socket = context.paths().buildkit_socket();
    let stream = UnixStream::connect(&socket).await;
    let stream = stream.map_err(|source| Failure::no_machine(NobodyThere { socket, source }))?;
    let (mut from, mut to) = stream.into_split();
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let there = async {
        tokio::io::copy(&mut stdin, &mut to).await?;
        to.shutdown().await?;
        // What is still to come is the other direction's.
        std::future::pending::<std::io::Result<()>>().await
    };
    let back = async {
        tokio::io::copy(&mut from, &mut stdout).await?;
        stdout.flush().await
    };
    tokio::select! {
        result = there => Ok(result?),
        result = back => Ok(result?),
    }
}
