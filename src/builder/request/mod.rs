//! What is to be built, and how BuildKit is told (its `dockerfile.v0` frontend and its exporters). What an option means is in the
//! file of its name.

mod annotation;
mod attestation;
mod cache;
mod call;
mod fields;
mod output;
mod policy;
mod secret;
mod share;
mod source;
mod ssh;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry, Exporter, SolveRequest};

pub use annotation::Annotation;
pub use attestation::{Attestation, Attested};
pub use cache::Cache;
pub(super) use cache::Local;
pub use call::{Answer, Call};
pub use fields::truth;
pub use output::Output;
pub use policy::{Policy, PolicyError};
pub use secret::{Secret, SecretError};
pub use share::ShareError;
pub(super) use source::{Archive, Place};
pub use source::{DockerfileAt, LONGEST_DOCKERFILE, NamedContext, Source, SourceError};
pub(super) use ssh::DEFAULT as DEFAULT_AGENT;
pub use ssh::Ssh;
pub use steps::{ByteSize, Entitlement, Host, Network, Steps, Ulimit};

use output::{BY_DIGEST, Kind};

use super::export::Destination;
use crate::registry::{ImageRef, Platform};

/// A build. What its source names has been looked at: see [`Source::find`].
#[derive(Debug, Clone)]
pub struct Build {
    pub source: Source,
    pub names: Vec<ImageRef>,
    pub platforms: Vec<Platform>,
    /// What is not among them has the Dockerfile's default.
    pub arguments: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// What provenance says of the repository that the context lies in.
    pub repository: BTreeMap<String, String>,
    pub annotations: Vec<Annotation>,
    pub target: Option<String>,
    /// What is asked, where nothing is to be built.
    pub call: Option<Call>,
    /// What is built anew.
    pub no_cache: NoCache,
    pub steps: Steps,
    /// Ask registries for newer base images.
    pub pull: bool,
    pub push: bool,
    /// The last of a kind counts.
    pub attestations: Vec<Attestation>,
    /// Nothing is an image in the builder's store.
    pub outputs: Vec<Output>,
    /// What it may be made from.
    pub policy: Option<Policy>,
    pub secrets: Vec<Secret>,
    pub agents: Vec<Ssh>,
    pub cache_from: Vec<Cache>,
    pub cache_to: Vec<Cache>,
    /// Other nodes build other platforms of the same image.
    pub is_share: bool,
}

/// An exporter, and where on this host its result goes if it comes here.
#[derive(Debug, Clone)]
pub(super) struct Export {
    pub(super) exporter: Exporter,
    pub(super) destination: Option<Destination>,
}

/// What of an earlier build is not used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCache {
    Nothing,
    /// Everything.
    All,
    /// These stages.
    Stages(Vec<String>),
}

/// Where a builder keeps the images that it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In that of the Docker daemon which it is a part of, where its containers find them.
    Docker,
    /// Where its worker does, if it does: a BuildKit of its own.
    Worker,
}

impl Store {
    /// The exporter that makes something of a kind.
    fn exporter(self, output: &Output) -> &'static str {
        match (self, output.kind) {
            (Self::Docker, Kind::Image) => "moby",
            (Self::Docker, Kind::Docker) if output.destination.is_none() => "moby",
            (_, kind) => kind.name(),
        }
    }
}

impl Build {
    /// The request for this build under the name `reference`, with a session's files and credentials. `imports` are the caches
    /// that are there.
    pub(super) fn solve_request(
        &self,
        reference: &str,
        session: &str,
        exports: &[Export],
        imports: Vec<CacheOptionsEntry>,
    ) -> SolveRequest {
        let exporters: Vec<_> = exports.iter().map(|export| export.exporter.clone()).collect();
        let first = exporters.first().cloned().unwrap_or_default();
        let mut frontend_attrs = self.attributes();
        if !imports.is_empty() {
            frontend_attrs.insert("cache-imports".to_owned(), cache_imports(&imports));
        }
        SolveRequest {
            r#ref: reference.to_owned(),
            session: session.to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs,
            entitlements: self.steps.entitlements(),
            // Left out, it crashes BuildKit before v0.22 (moby/buildkit issue 5922).
            cache: Some(CacheOptions {
                exports: (0..).zip(&self.cache_to).map(|(number, cache)| cache.export(number)).collect(),
                imports,
                ..CacheOptions::default()
            }),
            // BuildKit before v0.13 knows only the deprecated two; later ones ignore them beside `exporters`.
            exporter_deprecated: first.r#type,
            exporter_attrs_deprecated: first.attrs,
            exporters,
            source_policy: self.policy.as_ref().map(Policy::told),
            // A question is no build that anybody wants to find again.
            internal: self.call.is_some(),
            ..SolveRequest::default()
        }
    }

    /// The same, where the builder has said which address its machine has for the steps.
    pub(super) fn with_gateway(&self, gateway: IpAddr) -> Self {
        Self { steps: self.steps.with_gateway(gateway), ..self.clone() }
    }

    fn attributes(&self) -> HashMap<String, String> {
        let mut attributes = HashMap::new();
        let mut set = |key: &str, value: &str| drop(attributes.insert(key.to_owned(), value.to_owned()));
        for (key, value) in self.source.attributes() {
            set(&key, &value);
        }
        let mut capabilities = self.source.capabilities();
        if let Some(call) = &self.call {
            set("requestid", call.id);
            capabilities.push("moby.buildkit.frontend.subrequests");
        }
        if !capabilities.is_empty() {
            set("frontend.caps", &capabilities.join(","));
        }
        if !self.platforms.is_empty() {
            let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
            set("platform", &platforms.join(","));
        }
        if self.is_share || self.annotations.iter().any(Annotation::is_of_index) {
            // An index also of one platform, and steps that are named for it.
            set("multi-platform", "true");
        }
        for (key, value) in &self.arguments {
            set(&format!("build-arg:{key}"), value);
        }
        for (key, value) in &self.labels {
            set(&format!("label:{key}"), value);
        }
        for (key, value) in &self.repository {
            set(&format!("vcs:{key}"), value);
        }
        if let Some(target) = &self.target {
            set("target", target);
        }
        match &self.no_cache {
            NoCache::Nothing => {}
            NoCache::All => set("no-cache", ""),
            NoCache::Stages(stages) => set("no-cache", &stages.join(",")),
        }
        for (key, value) in self.steps.attributes() {
            set(key, &value);
        }
        // Else an image of the builder's own store will do, which is what its users mean by a name.
        set("image-resolve-mode", if self.pull { "pull" } else { "local" });
        let attested: BTreeMap<_, _> =
            self.attestations.iter().map(|one| (one.kind, &one.attributes)).collect();
        for (kind, how) in attested {
            if let Some(how) = how {
                set(&format!("attest:{}", kind.name()), how);
            }
        }
        attributes
    }

    /// What it may be called: by its names, or else by its context.
    pub fn title(&self) -> String {
        let names: Vec<_> = self.all_names().into_iter().map(ToString::to_string).collect();
        if names.is_empty() { self.source.key().display().to_string() } else { names.join(", ") }
    }

    /// Whether the result goes into a Docker daemon.
    pub fn needs_docker(&self) -> bool {
        self.outputs.iter().any(Output::needs_docker)
    }

    /// The names of all images that are made, or pushed.
    pub fn all_names(&self) -> Vec<&ImageRef> {
        if self.names.is_empty() {
            self.outputs.iter().flat_map(|output| self.names_of(output)).collect()
        } else {
            self.names.iter().collect()
        }
    }

    /// Those of the build, which come before an output's own.
    fn names_of<'a>(&'a self, output: &'a Output) -> &'a [ImageRef] {
        let own = output.names.as_deref().filter(|_| self.names.is_empty());
        own.unwrap_or(&self.names)
    }

    /// A name with a tag, where an image is to be pushed without one.
    pub fn tagged_by_digest(&self) -> Option<ImageRef> {
        let outputs = self.outputs();
        let names =
            outputs.iter().filter(|output| output.is_by_digest()).flat_map(|output| self.names_of(output));
        names.into_iter().find(|name| name.has_written_tag()).cloned()
    }

    /// Whether registries get the image.
    pub fn is_pushed(&self) -> bool {
        self.outputs().iter().any(Output::is_pushed)
    }

    /// Whether something has to be pushed that has no name.
    pub fn lacks_name(&self) -> bool {
        let outputs = self.outputs();
        self.names.is_empty() && outputs.iter().any(|output| output.is_pushed() && output.names.is_none())
    }

    /// What becomes of the result: what was asked for, with `--push`, or else an image in the builder's store.
    fn outputs(&self) -> Vec<Output> {
        let mut outputs = self.outputs.clone();
        if outputs.is_empty() || (self.push && !outputs.iter().any(|output| output.kind == Kind::Image)) {
            outputs.push(Output::image());
        }
        if self.push {
            for image in outputs.iter_mut().filter(|output| output.kind == Kind::Image) {
                image.attributes.insert("push".to_owned(), "true".to_owned());
            }
        }
        outputs
    }

    /// One exporter for each output; but plain http is allowed for registries on loopback only, so pushing to those gets one of
    /// its own.
    pub(super) fn exports(&self, store: Store) -> Vec<Export> {
        let mut exports = Vec::new();
        for output in self.outputs().iter().filter(|output| output.kind != Kind::CacheOnly) {
            let (loopback, others): (Vec<_>, Vec<_>) =
                self.names_of(output).iter().partition(|name| output.is_pushed() && name.speaks_http());
            if !others.is_empty() || loopback.is_empty() {
                exports.push(self.export(output, store, &others, false));
            }
            if !loopback.is_empty() {
                exports.push(self.export(output, store, &loopback, true));
            }
        }
        exports
    }

    fn export(&self, output: &Output, store: Store, names: &[&ImageRef], insecure: bool) -> Export {
        let mut attrs: HashMap<String, String> = output.attributes.clone().into_iter().collect();
        let mut set = |key: &str, value: String| drop(attrs.insert(key.to_owned(), value));
        // What gets the names of shares is the index of all of them, once they are there.
        let is_by_digest = output.is_by_digest() || (self.is_share && output.is_pushed());
        if is_by_digest {
            set(BY_DIGEST, "true".to_owned());
        }
        if self.is_share && output.kind == Kind::Local {
            set("platform-split", "true".to_owned());
        }
        if output.is_image() {
            if !names.is_empty() {
                let told = |name: &&ImageRef| if is_by_digest { name.repository() } else { name.to_string() };
                set("name", names.iter().map(told).collect::<Vec<_>>().join(","));
            }
            for (key, value) in self.annotations.iter().flat_map(Annotation::attributes) {
                set(&key, value);
            }
        }
        if output.kind == Kind::Image {
            // With the containerd store, the digest that counts is the manifest's (or index's), not the configuration's.
            set("prefer-image-digest", "true".to_owned());
        }
        if insecure {
            set("registry.insecure", "true".to_owned());
        }
        // The daemon's own exporter gives each name a tag, which is no name to push by a digest.
        let kind = if is_by_digest { output.kind.name() } else { store.exporter(output) };
        let exporter = Exporter { r#type: kind.to_owned(), attrs };
        Export { exporter, destination: output.destination.clone() }
    }
}

/// As the frontend wants to know of them as well.
fn cache_imports(imports: &[CacheOptionsEntry]) -> String {
    let entry =
        |import: &CacheOptionsEntry| serde_json::json!({"Type": import.r#type, "Attrs": import.attrs});
    serde_json::Value::from(imports.iter().map(entry).collect::<Vec<_>>()).to_string()
}

#[cfg(test)]
mod tests;
