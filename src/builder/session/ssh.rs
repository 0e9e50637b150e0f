//! `moby.sshforward.v1.SSH`: the agents that a step may ask for a signature, and for nothing else.
//!
//! Messages are those of draft-ietf-sshm-ssh-agent: a length, a type, contents. A step may list the keys and have something signed.
//! What would change the agent (adding and removing keys, locking it) does not come from a build, and is refused here.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh as SshService;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use bytes::{Buf, BytesMut};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::builder::request::DEFAULT_AGENT;

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// A message of one byte, `SSH_AGENT_FAILURE`.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// What OpenSSH's agent takes at most.
const LARGEST: usize = 256 * 1024;
const PIECE: usize = 32 * 1024;

/// An agent that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    /// Everything passes.
    pub(crate) is_raw: bool,
}

/// The agents of a build by their names.
#[derive(Debug, Default)]
pub(crate) struct Agents(pub(crate) HashMap<String, Agent>);

impl Agents {
    fn named(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { DEFAULT_AGENT } else { id };
        // The step may do without one, which is why this is asked before.
        self.0.get(id).ok_or_else(|| {
            Status::not_found(format!("no ssh agent {id:?} was given; give one with --ssh {id}"))
        })
    }
}

/// What the user's agent did not do.
fn failed(socket: &Path, error: &io::Error) -> Status {
    Status::unavailable(format!("cannot ask the ssh agent at {socket:?}: {error}"))
}

type Pieces = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

#[tonic::async_trait]
impl SshService for Agents {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.named(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = Pieces;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Pieces>, Status> {
        let agent = self.named(&id(request.metadata()))?.clone();
        let stream =
            UnixStream::connect(&agent.socket).await.map_err(|error| failed(&agent.socket, &error))?;
        let (from_agent, to_agent) = stream.into_split();
        let (ours, refused) = tokio::io::duplex(PIECE);
        let asked = request.into_inner();
        if agent.is_raw {
            drop(ours);
            tokio::spawn(pass(asked, to_agent));
        } else {
            tokio::spawn(filter(asked, to_agent, ours));
        }
        Ok(Response::new(Box::pin(answers(from_agent, refused))))
    }
}

fn id(metadata: &MetadataMap) -> String {
    let id = metadata.get("buildkit.ssh.id").and_then(|value| value.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// Everything that is asked, to whatever listens there.
async fn pass(mut asked: Streaming<BytesMessage>, mut agent: OwnedWriteHalf) {
    while let Some(Ok(piece)) = asked.next().await {
        if agent.write_all(&piece.data).await.is_err() {
            return;
        }
    }
}

/// What may be asked goes to the agent, and a refusal of the rest to `refusals`; each is answered before the next is taken, as
/// clients wait for that too.
async fn filter<S>(mut asked: S, mut agent: OwnedWriteHalf, mut refusals: tokio::io::DuplexStream)
where
    S: Stream<Item = Result<BytesMessage, Status>> + Unpin,
{
    let mut received = BytesMut::new();
    while let Some(Ok(piece)) = asked.next().await {
        received.extend_from_slice(&piece.data);
        loop {
            let sent = match next_message(&mut received) {
                Message::None => break,
                Message::Whole(message, true) => agent.write_all(&message).await,
                Message::Whole(_, false) => refusals.write_all(&FAILURE).await,
                // Nothing that comes after it can be read.
                Message::TooLarge => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// Not yet.
    None,
    /// With its length, and whether it is allowed.
    Whole(BytesMut, bool),
    TooLarge,
}

fn next_message(received: &mut BytesMut) -> Message {
    let Some(length) = received.get(..4).map(|mut bytes| bytes.get_u32()) else { return Message::None };
    let Some(whole) = usize::try_from(length)
        .ok()
        .filter(|length| *length <= LARGEST)
        .map(|length| length.saturating_add(4))
    else {
        return Message::TooLarge;
    };
    if received.len() < whole {
        return Message::None;
    }
    let message = received.split_to(whole);
    let allowed = message.get(4).is_some_and(|kind| ALLOWED.contains(kind));
    Message::Whole(message, allowed)
}

/// What the agent answers, and what is refused in its place.
fn answers(
    agent: OwnedReadHalf,
    refusals: tokio::io::DuplexStream,
) -> impl Stream<Item = Result<BytesMessage, Status>> + Send {
    futures::stream::select(pieces(agent), pieces(refusals))
}

fn pieces(
    reader: impl tokio::io::AsyncRead + Send + Unpin,
) -> impl Stream<Item = Result<BytesMessage, Status>> + Send {
    futures::stream::unfold(reader, |mut reader| async move {
        let mut data = Vec::with_capacity(PIECE);
        match reader.read_buf(&mut data).await {
            Ok(length) if length > 0 => Some((Ok(BytesMessage { data }), reader)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, contents: &[u8]) -> Vec<u8> {
        let length = u32::try_from(contents.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[kind], contents].concat()
    }

    #[test]
    fn messages_are_taken_one_by_one() {
        let mut received = BytesMut::new();
        assert_eq!(next_message(&mut received), Message::None);
        let list = message(11, b"");
        received.extend_from_slice(&list);
        received.extend_from_slice(&message(17, b"a key")[..6]);
        assert_eq!(next_message(&mut received), Message::Whole(list.as_slice().into(), true));
        assert_eq!(next_message(&mut received), Message::None, "the other is not whole yet");
        received.extend_from_slice(&message(17, b"a key")[6..]);
        assert_eq!(
            next_message(&mut received),
            Message::Whole(message(17, b"a key").as_slice().into(), false)
        );
        received.extend_from_slice(&[0, 0, 0, 0]);
        assert_eq!(next_message(&mut received), Message::Whole([0, 0, 0, 0].as_slice().into(), false));
        received.extend_from_slice(&[0xff; 4]);
        assert_eq!(next_message(&mut received), Message::TooLarge);
    }

    /// In pieces of every size, an agent gets what is allowed, and the rest is refused.
    #[tokio::test]
    async fn only_questions_reach_the_agent() {
        let all: Vec<u8> =
            [message(11, b""), message(19, b""), message(13, b"sign"), message(18, b"remove")].concat();
        for size in 1..all.len() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (refusals, mut refused) = tokio::io::duplex(PIECE);
            let pieces: Vec<_> =
                all.chunks(size).map(|piece| Ok(BytesMessage { data: piece.to_vec() })).collect();
            filter(futures::stream::iter(pieces), ours.into_split().1, refusals).await;
            let (mut asked, mut told) = (Vec::new(), Vec::new());
            let mut theirs = theirs;
            theirs.read_to_end(&mut asked).await.unwrap();
            refused.read_to_end(&mut told).await.unwrap();
            assert_eq!(asked, [message(11, b""), message(13, b"sign")].concat());
            assert_eq!(told, [FAILURE, FAILURE].concat());
        }
    }
}
