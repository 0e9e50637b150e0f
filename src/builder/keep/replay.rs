//! The progress of a build that is over, told again: a builder remembers what it said, and not in which order.

use std::collections::HashMap;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusRequest, StatusResponse, Vertex};
use prost::Message;

use super::{KeepError, Keeper, refused};
use crate::builder::solve::Observer;

/// What is put in order at a time, in bytes of this host's memory. The steps of a build print two megabytes each at most, as BuildKit
/// has it.
const ORDERED: usize = 256 << 20;

impl Keeper {
    /// Shows the progress of a build again: step by step, or as the builder tells it, which is how one that still runs goes on.
    pub async fn replay<O: Observer + ?Sized>(
        &mut self,
        id: &str,
        by_step: bool,
        observer: &mut O,
    ) -> Result<(), KeepError> {
        let request = StatusRequest { r#ref: id.to_owned() };
        let mut updates = self.control.status(request).await.map_err(|status| refused(&status))?.into_inner();
        let (mut all, mut bytes) = (Vec::new(), 0_usize);
        while let Some(update) = updates.message().await.map_err(|status| refused(&status))? {
            if !by_step {
                observer.update(&update);
                continue;
            }
            bytes = bytes.saturating_add(weight(&update));
            all.push(update);
            if bytes > ORDERED {
                in_order(std::mem::take(&mut all)).iter().for_each(|update| observer.update(update));
                bytes = 0;
            }
        }
        in_order(all).iter().for_each(|update| observer.update(update));
        observer.end();
        Ok(())
    }
}

/// About how much an update takes while it is put in order: a builder may say nothing in any number of messages.
fn weight(update: &StatusResponse) -> usize {
    let others = [update.statuses.len(), update.logs.len(), update.warnings.len()];
    // A step stands there twice.
    let pieces = others.into_iter().fold(update.vertexes.len().saturating_mul(2), usize::saturating_add);
    let each = size_of::<(Place, StatusResponse)>().saturating_add(size_of::<Vertex>());
    let texts = update.encoded_len().saturating_mul(2);
    pieces.saturating_add(1).saturating_mul(each).saturating_add(texts)
}

/// Where something stands: at its step's place, there at its time, and of the same moment a start first and an end last.
type Place = (usize, (i64, i32), u8);

/// One thing an update: the steps one after the other, each with what it moved and printed between its start and its end.
fn in_order(updates: Vec<StatusResponse>) -> Vec<StatusResponse> {
    let all = updates.iter().flat_map(|update| &update.vertexes);
    let places = places(all.collect());
    let at = |vertex: &str, time: Option<Timestamp>, rank: u8| -> Place {
        let place = places.get(vertex).copied().unwrap_or(usize::MAX);
        (place, time.map_or((i64::MIN, 0), |time| (time.seconds, time.nanos)), rank)
    };
    let mut pieces: Vec<(Place, StatusResponse)> = Vec::new();
    for update in updates {
        for vertex in update.vertexes {
            let start = Vertex { completed: None, cached: false, error: String::new(), ..vertex.clone() };
            for (one, time, rank) in [(start, vertex.started, 0), (vertex.clone(), vertex.completed, 2)] {
                let place = at(&vertex.digest, time, rank);
                pieces.push((place, StatusResponse { vertexes: vec![one], ..StatusResponse::default() }));
            }
        }
        for transfer in update.statuses {
            let place = at(&transfer.vertex, transfer.completed.or(transfer.timestamp), 1);
            pieces.push((place, StatusResponse { statuses: vec![transfer], ..StatusResponse::default() }));
        }
        for log in update.logs {
            let place = at(&log.vertex, log.timestamp, 1);
            pieces.push((place, StatusResponse { logs: vec![log], ..StatusResponse::default() }));
        }
        for warning in update.warnings {
            let place = at("", None, 0);
            pieces.push((place, StatusResponse { warnings: vec![warning], ..StatusResponse::default() }));
        }
    }
    pieces.sort_by_key(|(place, _)| *place);
    pieces.into_iter().map(|(_, piece)| piece).collect()
}

/// The place of each step: in the order in which they first started, and those that never did behind all.
fn places(vertexes: Vec<&Vertex>) -> HashMap<String, usize> {
    let mut first: HashMap<&str, (bool, i64, i32, usize)> = HashMap::new();
    for (number, vertex) in vertexes.into_iter().enumerate() {
        let time = vertex.started.unwrap_or_default();
        let key = (vertex.started.is_none(), time.seconds, time.nanos, number);
        let known = first.entry(&vertex.digest).or_insert(key);
        *known = (*known).min(key);
    }
    let mut order: Vec<_> = first.into_iter().collect();
    order.sort_by_key(|(_, key)| *key);
    order.into_iter().enumerate().map(|(place, (digest, _))| (digest.to_owned(), place)).collect()
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::{VertexLog, VertexStatus};

    use super::*;
    use crate::builder::progress::Plain;

    #[test]
    fn what_says_nothing_takes_room_too() {
        let nothing = StatusResponse::default();
        assert!(nothing.encoded_len() == 0 && weight(&nothing) > size_of::<StatusResponse>());
        let steps = StatusResponse { vertexes: vec![Vertex::default(); 100], ..StatusResponse::default() };
        assert!(weight(&steps) > 200 * (size_of::<StatusResponse>() + size_of::<Vertex>()));
    }

    #[test]
    fn steps_are_told_one_after_the_other() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let vertex = |digest: &str, from, until| Vertex {
            digest: digest.to_owned(),
            name: format!("step {digest}"),
            started: at(from),
            completed: at(until),
            ..Vertex::default()
        };
        let log = |vertex: &str, second, text: &str| VertexLog {
            vertex: vertex.to_owned(),
            timestamp: at(second),
            msg: text.as_bytes().to_vec(),
            ..VertexLog::default()
        };
        let moved = VertexStatus {
            id: "layer".to_owned(),
            vertex: "a".to_owned(),
            started: at(1),
            completed: at(2),
            ..VertexStatus::default()
        };
        let said = StatusResponse {
            vertexes: vec![vertex("b", 2, 5), vertex("a", 1, 4)],
            statuses: vec![moved],
            logs: vec![log("b", 3, "one\n"), log("a", 3, "other\n"), log("b", 5, "last\n")],
            ..StatusResponse::default()
        };
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out);
        in_order(vec![said]).iter().for_each(|update| plain.update(update));
        plain.end();
        let wanted = "\n#1 step a\n#1 layer 1.0s done\n#1 2.000 other\n#1 DONE 3.0s\n\n\
                      #2 step b\n#2 1.000 one\n#2 3.000 last\n#2 DONE 3.0s\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
