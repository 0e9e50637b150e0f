//! How a builder says that it came to what it built: a part of what it remembers of a build.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::{BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo};
use serde_json::Value;
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use super::history::everything;
use super::{KeepError, Keeper, refused};
use crate::builder::session::content::{Asked, Read};

/// What buildx calls it among what is said of a build; where there are several, a slash and the platform follow.
const NAME: &str = "buildx.build.provenance";
/// How much of a build's is taken from a builder, in bytes: what BuildKit lets a message have.
const LONGEST: usize = 16 * 1024 * 1024;

impl Keeper {
    /// That of a build, by the names that buildx gives it.
    pub async fn provenance(&mut self, build: &str) -> Result<BTreeMap<String, Value>, KeepError> {
        let asked = BuildHistoryRequest { r#ref: build.to_owned(), ..everything() };
        let events = self.memories(asked).await?;
        let found: BTreeMap<_, _> = events.iter().flat_map(|event| &event.record).flat_map(named).collect();
        let (mut read, mut room) = (BTreeMap::new(), LONGEST);
        for (name, digest) in found {
            let content = self.content(&digest, room).await?;
            room = room.saturating_sub(content.len());
            let wrong = |_| KeepError::Refused(format!("its provenance {digest} is no JSON"));
            read.insert(name, serde_json::from_slice(&content).map_err(wrong)?);
        }
        Ok(read)
    }

    async fn content(&self, digest: &str, room: usize) -> Result<Vec<u8>, KeepError> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| KeepError::Refused(error.to_string()))?;
        let asked = Request::new(Asked::whole(digest));
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let pieces = client.server_streaming(asked, path, ProstCodec::<Asked, Read>::default()).await;
        let mut pieces = pieces.map_err(|status| refused(&status))?.into_inner();
        let mut content = Vec::new();
        while let Some(piece) = pieces.message().await.map_err(|status| refused(&status))? {
            content.extend_from_slice(&piece.data);
            if content.len() > room {
                let text = format!("its provenance has more than {} MiB", LONGEST >> 20);
                return Err(KeepError::Refused(text));
            }
        }
        Ok(content)
    }
}

/// Where it lies, for what a build made, or for each platform of it.
fn named(record: &BuildHistoryRecord) -> Vec<(String, String)> {
    let results: Vec<(String, &BuildResultInfo)> = match &record.result {
        Some(result) => vec![(NAME.to_owned(), result)],
        None => {
            record.results.iter().map(|(platform, result)| (format!("{NAME}/{platform}"), result)).collect()
        }
    };
    results.into_iter().filter_map(|(name, result)| Some((name, of(result)?))).collect()
}

fn of(result: &BuildResultInfo) -> Option<String> {
    let mut attestations = result.attestations.iter();
    let found = attestations.find(|each| {
        let kind = each.annotations.get("in-toto.io/predicate-type");
        each.media_type == "application/vnd.in-toto+json"
            && kind.is_some_and(|kind| kind.starts_with("https://slsa.dev/provenance/"))
    });
    found.map(|found| found.digest.clone())
}
