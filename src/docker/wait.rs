//! Learns how a container ends.
//!
//! The question has to reach the daemon before the container starts: one that is removed when it ends could be gone
//! before a later question. The daemon sends the head of its answer when it has begun to wait (moby,
//! `postContainersWait`), which bollard does not show; so this one request is made here.

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use super::{Builder, Error};

/// The daemon waits already; [`Waiting::status`] is its answer.
#[derive(Debug)]
pub(super) struct Waiting(Response<Incoming>);

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    status_code: i64,
    error: Option<AnswerError>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerError {
    message: String,
}

impl Waiting {
    /// For a container that has been made and not started. `removed`: until it is gone, not only ended.
    pub(super) async fn begin(builder: &Builder, container: &str, removed: bool) -> Result<Self, Error> {
        let condition = if removed { "removed" } else { "next-exit" };
        let path = format!("/containers/{container}/wait?condition={condition}");
        builder.post("wait for the container", &path, false).await.map(Self)
    }

    /// The container's exit status, when it has one.
    pub(super) async fn status(self) -> Result<u8, Error> {
        let body = self.0.into_body().collect().await.map_err(Error::lost)?.to_bytes();
        let answer: Answer = serde_json::from_slice(&body).map_err(Error::lost)?;
        match answer.error {
            Some(error) if !error.message.is_empty() => {
                Err(Error::Refused { what: "wait for the container", reason: error.message })
            }
            // An exit status has eight bits; 255 stands for one that the daemon could not learn.
            _ => Ok(u8::try_from(answer.status_code).unwrap_or(u8::MAX)),
        }
    }
}
