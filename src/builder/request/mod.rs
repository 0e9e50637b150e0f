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

use output::Kind;

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
        self.names
            .iter()
            .chain(self.outputs.iter().filter_map(|output| output.names.as_ref()).flatten())
            .collect()
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
            let names = output.names.as_ref().unwrap_or(&self.names);
            let (loopback, others): (Vec<_>, Vec<_>) =
                names.iter().partition(|name| output.is_pushed() && name.speaks_http());
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
        let in_share = self.is_share && output.is_pushed();
        if in_share {
            // What gets the names is the index of all shares, once they are there.
            set("push-by-digest", "true".to_owned());
        }
        if self.is_share && output.kind == Kind::Local {
            set("platform-split", "true".to_owned());
        }
        if output.is_image() {
            if !names.is_empty() {
                let told = |name: &&ImageRef| if in_share { name.repository() } else { name.to_string() };
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
        let kind = if in_share { output.kind.name() } else { store.exporter(output) };
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
mod tests {
    use super::*;
    use crate::builder::Network;

    fn build(names: &[&str], push: bool) -> Build {
        let stdin = b"FROM scratch\n".as_slice();
        Build {
            source: Source::find(std::path::Path::new("-"), DockerfileAt::Usual, Vec::new(), stdin).unwrap(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            platforms: vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()],
            arguments: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            labels: BTreeMap::new(),
            repository: BTreeMap::new(),
            annotations: Vec::new(),
            target: Some("t".to_owned()),
            call: None,
            no_cache: NoCache::All,
            steps: Steps::default(),
            pull: false,
            push,
            attestations: Vec::new(),
            outputs: Vec::new(),
            policy: None,
            secrets: Vec::new(),
            agents: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            is_share: false,
        }
    }

    fn request(build: &Build) -> SolveRequest {
        build.solve_request("r", "s", &build.exports(Store::Docker), Vec::new())
    }

    fn with_outputs(outputs: &[&str], build: Build) -> Build {
        Build { outputs: outputs.iter().map(|output| output.parse().unwrap()).collect(), ..build }
    }

    /// Of each exporter the type, the names, and whether it pushes.
    fn told(build: &Build, store: Store) -> Vec<(String, String, bool)> {
        let told = |export: Export| {
            let attrs = export.exporter.attrs;
            (
                export.exporter.r#type,
                attrs.get("name").cloned().unwrap_or_default(),
                attrs.contains_key("push"),
            )
        };
        build.exports(store).into_iter().map(told).collect()
    }

    #[test]
    fn each_output_has_an_exporter() {
        let all = [
            "type=oci,dest=a",
            "type=image,name=y",
            "out",
            "type=cacheonly",
            "type=docker",
            "type=docker,dest=d",
        ];
        let build = with_outputs(&all, build(&["x"], false));
        let name = |name: &str| format!("docker.io/library/{name}:latest");
        let row = |kind: &str, name: &str, pushed| (kind.to_owned(), name.to_owned(), pushed);
        let wanted = |image: &str, load: &str| {
            [
                row("oci", &name("x"), false),
                row(image, &name("y"), false),
                row("local", "", false),
                row(load, &name("x"), false),
                row("docker", &name("x"), false),
            ]
        };
        assert_eq!(told(&build, Store::Docker), wanted("moby", "moby"));
        assert_eq!(told(&build, Store::Worker), wanted("image", "docker"));
        let destinations: Vec<_> =
            build.exports(Store::Docker).into_iter().map(|export| export.destination).collect();
        assert_eq!(destinations[0], Some(Destination::File("a".into())));
        assert!(destinations[1].is_none() && destinations[3].is_none());

        let pushed = Build { push: true, ..with_outputs(&["out"], self::build(&["x"], false)) };
        assert_eq!(told(&pushed, Store::Docker), [row("local", "", false), row("moby", &name("x"), true)]);
        let pushed = Build { push: true, ..with_outputs(&["type=image"], self::build(&["x"], false)) };
        assert_eq!(told(&pushed, Store::Docker), [row("moby", &name("x"), true)]);
        assert!(told(&with_outputs(&["type=cacheonly"], self::build(&[], false)), Store::Docker).is_empty());
        assert!(with_outputs(&["type=registry"], self::build(&[], false)).lacks_name());
        assert!(!with_outputs(&["type=registry,name=y"], self::build(&[], false)).lacks_name());
    }

    #[test]
    fn a_share_pushes_what_has_no_name_yet() {
        let whole = with_outputs(&["type=image", "out"], build(&["127.0.0.1:5000/a:1", "ghcr.io/x/a"], true));
        let share = whole.share(vec!["linux/arm64".parse().unwrap()]);
        let exports = share.exports(Store::Docker);
        let told: Vec<_> =
            exports.iter().map(|export| (&*export.exporter.r#type, &export.exporter.attrs)).collect();
        assert_eq!(told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), ["image", "image", "local"]);
        assert_eq!((&*told[0].1["name"], &*told[1].1["name"]), ("ghcr.io/x/a", "127.0.0.1:5000/a"));
        assert!(told[..2].iter().all(|(_, attrs)| attrs["push-by-digest"] == "true"));
        assert_eq!(told[2].1["platform-split"], "true");
        let attributes = request(&share).frontend_attrs;
        assert_eq!((&*attributes["platform"], &*attributes["multi-platform"]), ("linux/arm64", "true"));
        assert_eq!(whole.pushed_names().len(), 2);
    }

    #[test]
    fn what_one_node_would_make_is_not_shared_out() {
        let refused =
            |outputs: &[&str]| with_outputs(outputs, build(&["a"], true)).prepare_shares().unwrap_err();
        assert!(matches!(refused(&["type=oci,dest=x"]), ShareError::Output("oci")));
        assert!(matches!(refused(&["type=tar,dest=x"]), ShareError::Output("tar")));
        assert!(matches!(refused(&["type=registry,name=x", "type=registry,name=y"]), ShareError::Images));
        let cache = |text: &str| Build { cache_to: vec![Cache::to(text).unwrap()], ..build(&[], false) };
        assert!(matches!(cache("type=local,dest=d").prepare_shares(), Err(ShareError::Cache)));
        assert!(cache("type=inline").prepare_shares().is_ok());
        assert!(build(&["a"], false).stays_apart() && !build(&["a"], true).stays_apart());
    }

    #[test]
    fn caches_are_told_twice() {
        let import = Cache::from("ghcr.io/a/b:c").unwrap().import(0, None).unwrap();
        let build =
            Build { cache_to: vec![Cache::to("type=local,dest=d,mode=max").unwrap()], ..build(&[], false) };
        let request = build.solve_request("r", "s", &[], vec![import]);
        let said: serde_json::Value = serde_json::from_str(&request.frontend_attrs["cache-imports"]).unwrap();
        assert_eq!(said, serde_json::json!([{"Type": "registry", "Attrs": {"ref": "ghcr.io/a/b:c"}}]));
        let cache = request.cache.unwrap();
        assert_eq!(
            (cache.imports[0].r#type.as_str(), cache.exports[0].r#type.as_str()),
            ("registry", "local")
        );
        let attributes =
            [("dest", "to-0"), ("mode", "max")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(cache.exports[0].attrs, attributes.into());
    }

    #[test]
    fn flags_become_attributes() {
        let request = request(&build(&["x"], false));
        let attribute = |key: &str| request.frontend_attrs.get(key).map(String::as_str);
        assert_eq!(attribute("platform"), Some("linux/amd64,linux/arm/v7"));
        assert_eq!(attribute("build-arg:A"), Some("1"));
        assert_eq!((attribute("target"), attribute("no-cache")), (Some("t"), Some("")));
        assert_eq!((attribute("image-resolve-mode"), attribute("attest:provenance")), (Some("local"), None));
        assert!(request.cache.is_some() && request.entitlements.is_empty());
        assert_eq!(request.exporter_deprecated, "moby");
        assert_eq!(request.exporters[0].attrs["name"], "docker.io/library/x:latest");
        assert!(!request.exporters[0].attrs.contains_key("push"));
    }

    #[test]
    fn a_part_of_the_cache_may_be_left_and_steps_may_run_otherwise() {
        let no_cache = NoCache::Stages(vec!["a".to_owned(), "b".to_owned()]);
        let steps = Steps { network: Network::Host, ..Steps::default() };
        let request = request(&Build { no_cache, steps, ..build(&["x"], false) });
        assert_eq!(request.frontend_attrs["no-cache"], "a,b");
        assert_eq!(request.frontend_attrs["force-network-mode"], "host");
        assert_eq!(request.entitlements, ["network.host"]);
    }

    #[test]
    fn of_each_attestation_the_last_counts() {
        let attestations =
            ["type=sbom", "type=provenance", "type=sbom,disabled=true", "type=provenance,mode=max"];
        let attestations = attestations.map(|text| text.parse().unwrap()).into();
        let request = request(&Build { attestations, ..build(&["x"], false) });
        let mut attested: Vec<_> =
            request.frontend_attrs.iter().filter(|(key, _)| key.starts_with("attest:")).collect();
        attested.sort();
        assert_eq!(attested, [(&"attest:provenance".to_owned(), &"mode=max".to_owned())]);
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        let exporters =
            build(&["127.0.0.1:5000/a", "ghcr.io/x/a", "localhost:5000/b"], true).exports(Store::Docker);
        let insecure: Vec<_> = exporters
            .iter()
            .map(|one| {
                (one.exporter.attrs["name"].as_str(), one.exporter.attrs.contains_key("registry.insecure"))
            })
            .collect();
        assert_eq!(
            insecure,
            [("ghcr.io/x/a:latest", false), ("127.0.0.1:5000/a:latest,localhost:5000/b:latest", true)]
        );
        assert_eq!(
            build(&["127.0.0.1:5000/a", "x"], false).exports(Store::Docker).len(),
            1,
            "nothing is pushed"
        );
    }
}
