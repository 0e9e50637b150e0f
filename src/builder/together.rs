//! One build by several nodes: each builds platforms of its own, and what they push by its digest is joined under the names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use images::progress::Progress;
use thiserror::Error;
use tokio::sync::watch;

use super::attach::Rest;
use super::request::{Build, ShareError};
use super::solve::{self, BuildError, Means, Observer, Outcome, is_digest};
use crate::registry::{ImageRef, Join, JoinError, JoinOptions, Joined, Placed, Platform};

/// What one node has to do.
#[derive(Debug)]
pub struct Share {
    pub node: String,
    pub means: Means,
    pub platforms: Vec<Platform>,
}

/// What several nodes could not do.
#[derive(Debug, Error)]
pub enum TogetherError {
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error("node {0} does not say what it pushed, so nothing can be joined")]
    Unsaid(String),
    #[error("every node has built and pushed its share, but they cannot be joined as {name}")]
    Join {
        name: String,
        #[source]
        source: Box<JoinError>,
    },
}

/// Builds with all nodes at the same time. The first that fails ends the others. An error of a node names it.
pub async fn build<O: Observer + ?Sized>(
    mut whole: Build,
    shares: Vec<Share>,
    observer: &mut O,
    cancel: impl Future<Output = ()>,
    progress: &dyn Progress,
) -> Result<Outcome, BuildError> {
    whole.prepare_shares().map_err(TogetherError::from)?;
    if whole.stays_apart() {
        observer.note("each node keeps the image of its own platforms; --push makes one of them all");
    }
    let credentials = shares.first().map(|share| share.means.credentials.clone());
    let nodes: Vec<String> = shares.iter().map(|share| share.node.clone()).collect();
    let mut cancel = std::pin::pin!(cancel);
    let result = solve_all(&whole, shares, observer, &mut cancel).await;
    observer.end();
    let done = result?;
    let responses = done.iter().map(|(outcome, _)| &outcome.response);
    let mut joined = None;
    if let (names, Some(credentials)) = (whole.pushed_names(), credentials)
        && let Some(name) = names.first()
    {
        let pushed = nodes.iter().zip(responses).map(|(node, response)| {
            let digest = response.get("containerimage.digest").filter(|digest| is_digest(digest));
            digest.map(|digest| name.with_digest(digest)).ok_or_else(|| TogetherError::Unsaid(node.clone()))
        });
        let pushed = pushed.collect::<Result<Vec<_>, _>>()?;
        let join = Join { credentials: &credentials, progress };
        let index = tokio::select! {
            joined = push(&whole, join, pushed, name, &names) => joined?,
            () = &mut cancel => return Err(BuildError::Cancelled),
        };
        joined = Some((index, names));
    }
    let mut outcomes = Vec::new();
    for (outcome, rest) in done {
        rest.finish(&outcome.response)?;
        outcomes.push(outcome);
    }
    Ok(merged(outcomes, joined.as_ref()))
}

/// What each node answered, in the order of the shares; or the first error, once all others have ended.
async fn solve_all<O: Observer + ?Sized>(
    whole: &Build,
    shares: Vec<Share>,
    observer: &mut O,
    mut cancel: impl Future<Output = ()> + Unpin,
) -> Result<Vec<(Outcome, Rest)>, BuildError> {
    let shared = RefCell::new(observer);
    let (stop, stopped) = watch::channel(false);
    let mut running: FuturesUnordered<_> = (0_usize..)
        .zip(shares)
        .map(|(place, share)| {
            let (mut stopped, shared) = (stopped.clone(), &shared);
            async move {
                let Share { node, means, platforms } = share;
                let mut seen = Seen { node: &node, shared };
                let until_stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
                let result = solve::solve(&whole.share(platforms), means, &mut seen, until_stopped).await;
                (place, result.map_err(|error| error_of_node(&node, error)))
            }
        })
        .collect();
    let (mut done, mut failed) = (Vec::new(), None);
    loop {
        tokio::select! {
            () = &mut cancel, if failed.is_none() => {
                failed = Some(BuildError::Cancelled);
                stop.send_replace(true);
            }
            ended = running.next() => match ended {
                None => break,
                Some((place, Ok(one))) => done.push((place, one)),
                Some((_, Err(error))) => {
                    stop.send_replace(true);
                    failed.get_or_insert(error);
                }
            }
        }
    }
    drop(running);
    if let Some(error) = failed {
        for (_, (_, rest)) in done {
            rest.give_up().await;
        }
        return Err(error);
    }
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, one)| one).collect())
}

/// Gives the index of what the nodes pushed its names.
async fn push(
    whole: &Build,
    join: Join<'_>,
    pushed: Vec<ImageRef>,
    first: &ImageRef,
    names: &[ImageRef],
) -> Result<Joined, BuildError> {
    let options = JoinOptions { annotations: whole.index_annotations(), ..JoinOptions::default() };
    let failed = |name: &ImageRef| {
        let name = name.to_string();
        move |source: JoinError| BuildError::Together(TogetherError::Join { name, source: source.into() })
    };
    let pushed: Vec<_> = pushed.into_iter().map(Placed::from).collect();
    let joined = join.of(&pushed, &options).await.map_err(failed(first))?;
    for name in names {
        join.push(&joined, name).await.map_err(failed(name))?;
    }
    Ok(joined)
}

/// What the nodes say together: of images only what is said of all.
fn merged(outcomes: Vec<Outcome>, joined: Option<&(Joined, Vec<ImageRef>)>) -> Outcome {
    let reference = outcomes.first().map(|outcome| outcome.reference.clone()).unwrap_or_default();
    let mut response: HashMap<_, _> = outcomes.into_iter().flat_map(|outcome| outcome.response).collect();
    response.retain(|key, _| !key.starts_with("containerimage."));
    if let Some((joined, names)) = joined {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        response.insert("image.name".to_owned(), names.join(","));
        let descriptor = serde_json::json!({
            "mediaType": joined.media_type, "digest": joined.digest(), "size": joined.bytes.len(),
        });
        response.insert("containerimage.digest".to_owned(), joined.digest());
        response.insert("containerimage.descriptor".to_owned(), STANDARD.encode(descriptor.to_string()));
    }
    Outcome { reference, response }
}

/// The error of a node. That a build was cancelled is nobody's own.
fn error_of_node(node: &str, error: BuildError) -> BuildError {
    match error {
        BuildError::Cancelled => BuildError::Cancelled,
        BuildError::Failed(mut failure) => {
            failure.vertex = failure.vertex.map(|vertex| of_node(node, &vertex));
            BuildError::Failed(failure).of(node)
        }
        error => error.of(node),
    }
}

/// A vertex of a node: what is the same everywhere is not the same step.
fn of_node(node: &str, vertex: &str) -> String {
    format!("{node}/{vertex}")
}

/// `[2/3] RUN make` of a node, as others call it too: `[near 2/3] RUN make`.
fn name_of_node(node: &str, name: &str) -> String {
    match name.strip_prefix('[') {
        Some(rest) => format!("[{node} {rest}"),
        None if name.is_empty() => String::new(),
        None => format!("[{node}] {name}"),
    }
}

/// One node's view of the observer that all share.
struct Seen<'a, 'b, O: ?Sized> {
    node: &'a str,
    shared: &'a RefCell<&'b mut O>,
}

impl<O: Observer + ?Sized> Observer for Seen<'_, '_, O> {
    fn update(&mut self, status: &StatusResponse) {
        let mut status = status.clone();
        let own = |vertex: &mut String| *vertex = of_node(self.node, vertex);
        for vertex in &mut status.vertexes {
            own(&mut vertex.digest);
            vertex.inputs.iter_mut().for_each(own);
            vertex.name = name_of_node(self.node, &vertex.name);
        }
        status.statuses.iter_mut().for_each(|status| own(&mut status.vertex));
        status.logs.iter_mut().for_each(|log| own(&mut log.vertex));
        status.warnings.iter_mut().for_each(|warning| own(&mut warning.vertex));
        self.shared.borrow_mut().update(&status);
    }

    fn tick(&mut self) {
        self.shared.borrow_mut().tick();
    }

    fn note(&mut self, text: &str) {
        self.shared.borrow_mut().note(&format!("{}: {text}", self.node));
    }

    /// Others may go on.
    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::{Vertex, VertexLog};

    #[derive(Default)]
    struct All(Vec<StatusResponse>);

    impl Observer for All {
        fn update(&mut self, status: &StatusResponse) {
            self.0.push(status.clone());
        }
        fn note(&mut self, _: &str) {}
        fn end(&mut self) {}
    }

    #[test]
    fn the_same_step_of_two_nodes_is_two() {
        let mut all = All::default();
        let shared = RefCell::new(&mut all);
        let vertex = Vertex { digest: "d".into(), name: "[1/2] FROM x".into(), ..Vertex::default() };
        let log = VertexLog { vertex: "d".into(), ..VertexLog::default() };
        let status = StatusResponse { vertexes: vec![vertex], logs: vec![log], ..StatusResponse::default() };
        for node in ["near", "far"] {
            Seen { node, shared: &shared }.update(&status);
        }
        let told: Vec<_> =
            all.0.iter().map(|status| (&*status.vertexes[0].name, &*status.logs[0].vertex)).collect();
        assert_eq!(told, [("[near 1/2] FROM x", "near/d"), ("[far 1/2] FROM x", "far/d")]);
        assert_eq!(name_of_node("far", "exporting"), "[far] exporting");
    }

    #[test]
    fn images_of_single_nodes_are_not_said_to_be_the_whole() {
        let outcome = |name: &str| Outcome {
            reference: name.to_owned(),
            response: [
                ("containerimage.digest".to_owned(), name.to_owned()),
                ("x".to_owned(), "y".to_owned()),
            ]
            .into(),
        };
        let apart = merged(vec![outcome("a"), outcome("b")], None);
        assert_eq!((apart.reference.as_str(), apart.digest()), ("a", None));
        assert_eq!(apart.response["x"], "y");
    }
}
