//! What is to be built, and how BuildKit is told (its `dockerfile.v0` frontend and its exporters).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, Exporter, SolveRequest};
use thiserror::Error;

use super::annotation::Annotation;
use super::attestation::Attestation;
use super::steps::Steps;
use crate::registry::{ImageRef, Platform};

/// A build. The paths have been checked: see [`Source::find`].
#[derive(Debug, Clone)]
pub struct Build {
    pub source: Source,
    pub names: Vec<ImageRef>,
    pub platforms: Vec<Platform>,
    /// `None`: not set here, so the Dockerfile's default counts.
    pub arguments: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: Vec<Annotation>,
    pub target: Option<String>,
    /// What is built anew.
    pub no_cache: NoCache,
    pub steps: Steps,
    /// Ask registries for newer base images.
    pub pull: bool,
    pub push: bool,
    /// The last of a kind counts.
    pub attestations: Vec<Attestation>,
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
    /// The exporter that puts them there.
    fn exporter(self) -> &'static str {
        match self {
            Self::Docker => "moby",
            Self::Worker => "image",
        }
    }
}

/// Where a build's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Absolute.
    pub context: PathBuf,
    /// The directory of the Dockerfile, absolute.
    pub dockerfile_directory: PathBuf,
    pub dockerfile_name: String,
}

/// What the arguments name does not exist, or cannot be meant.
#[derive(Debug, Error)]
pub enum SourceError {
    #[error(
        "the build context {0:?} is not a directory; name the directory that holds what the Dockerfile copies"
    )]
    NotADirectory(PathBuf),
    #[error("cannot open the build context {path:?}")]
    Context {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no Dockerfile at {0:?}; name one with -f")]
    NoDockerfile(PathBuf),
    #[error("cannot use {0:?} as a Dockerfile: it is not a file with a name in UTF-8")]
    NotAFile(PathBuf),
}

impl Source {
    /// Finds context and Dockerfile: `Dockerfile` (or `dockerfile`, as the daemon would) in the context unless named.
    pub fn find(context: &Path, dockerfile: Option<&Path>) -> Result<Self, SourceError> {
        let absolute = std::fs::canonicalize(context)
            .map_err(|source| SourceError::Context { path: context.to_owned(), source })?;
        if !absolute.is_dir() {
            return Err(SourceError::NotADirectory(context.to_owned()));
        }
        let path = dockerfile.map_or_else(|| default_dockerfile(context), Path::to_owned);
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let missing = |_| SourceError::NoDockerfile(path.clone());
        let metadata = std::fs::metadata(&path).map_err(missing)?;
        let dockerfile_directory = std::fs::canonicalize(directory).map_err(missing)?;
        match name.filter(|_| metadata.is_file()) {
            Some(dockerfile_name) => Ok(Self { context: absolute, dockerfile_directory, dockerfile_name }),
            None => Err(SourceError::NotAFile(path)),
        }
    }
}

fn default_dockerfile(context: &Path) -> PathBuf {
    let usual = context.join("Dockerfile");
    let lower = context.join("dockerfile");
    if !usual.exists() && lower.exists() { lower } else { usual }
}

impl Build {
    /// The request for this build under the name `reference`, with a session's files and credentials.
    pub(crate) fn solve_request(&self, reference: &str, session: &str, store: Store) -> SolveRequest {
        let exporters = self.exporters(store);
        let first = exporters.first().cloned().unwrap_or_default();
        SolveRequest {
            r#ref: reference.to_owned(),
            session: session.to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: self.attributes(),
            entitlements: self.steps.entitlement().map(str::to_owned).into_iter().collect(),
            // Left out, it crashes BuildKit before v0.22 (moby/buildkit issue 5922).
            cache: Some(CacheOptions::default()),
            // BuildKit before v0.13 knows only the deprecated two; later ones ignore them beside `exporters`.
            exporter_deprecated: first.r#type,
            exporter_attrs_deprecated: first.attrs,
            exporters,
            ..SolveRequest::default()
        }
    }

    fn attributes(&self) -> HashMap<String, String> {
        let mut attributes = HashMap::new();
        let mut set = |key: &str, value: &str| drop(attributes.insert(key.to_owned(), value.to_owned()));
        set("filename", &self.source.dockerfile_name);
        if !self.platforms.is_empty() {
            let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
            set("platform", &platforms.join(","));
        }
        for (key, value) in &self.arguments {
            set(&format!("build-arg:{key}"), value);
        }
        for (key, value) in &self.labels {
            set(&format!("label:{key}"), value);
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

    /// The image goes to the builder's store, and to registries if it is pushed. Plain http is allowed for those on
    /// loopback only, so they get an exporter of their own.
    fn exporters(&self, store: Store) -> Vec<Exporter> {
        let (loopback, others): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|name| self.push && name.speaks_http());
        let mut exporters = Vec::new();
        if !others.is_empty() || loopback.is_empty() {
            exporters.push(self.exporter(store, &others, false));
        }
        if !loopback.is_empty() {
            exporters.push(self.exporter(store, &loopback, true));
        }
        exporters
    }

    fn exporter(&self, store: Store, names: &[&ImageRef], insecure: bool) -> Exporter {
        // With the containerd store, the digest that counts is the manifest's (or index's), not the configuration's.
        let mut attrs = HashMap::from([("prefer-image-digest".to_owned(), "true".to_owned())]);
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            attrs.insert("name".to_owned(), names.join(","));
        }
        if self.push {
            attrs.insert("push".to_owned(), "true".to_owned());
        }
        attrs.extend(self.annotations.iter().flat_map(Annotation::attributes));
        if insecure {
            attrs.insert("registry.insecure".to_owned(), "true".to_owned());
        }
        Exporter { r#type: store.exporter().to_owned(), attrs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Network;

    fn build(names: &[&str], push: bool) -> Build {
        Build {
            source: Source {
                context: "/c".into(),
                dockerfile_directory: "/c".into(),
                dockerfile_name: "D".to_owned(),
            },
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            platforms: vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()],
            arguments: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            labels: BTreeMap::new(),
            annotations: Vec::new(),
            target: Some("t".to_owned()),
            no_cache: NoCache::All,
            steps: Steps::default(),
            pull: false,
            push,
            attestations: Vec::new(),
        }
    }

    #[test]
    fn flags_become_attributes() {
        let request = build(&["x"], false).solve_request("r", "s", Store::Docker);
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
        let request =
            Build { no_cache, steps, ..build(&["x"], false) }.solve_request("r", "s", Store::Docker);
        assert_eq!(request.frontend_attrs["no-cache"], "a,b");
        assert_eq!(request.frontend_attrs["force-network-mode"], "host");
        assert_eq!(request.entitlements, ["network.host"]);
    }

    #[test]
    fn of_each_attestation_the_last_counts() {
        let attestations =
            ["type=sbom", "type=provenance", "type=sbom,disabled=true", "type=provenance,mode=max"];
        let attestations = attestations.map(|text| text.parse().unwrap()).into();
        let request = Build { attestations, ..build(&["x"], false) }.solve_request("r", "s", Store::Docker);
        let mut attested: Vec<_> =
            request.frontend_attrs.iter().filter(|(key, _)| key.starts_with("attest:")).collect();
        attested.sort();
        assert_eq!(attested, [(&"attest:provenance".to_owned(), &"mode=max".to_owned())]);
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        let exporters =
            build(&["127.0.0.1:5000/a", "ghcr.io/x/a", "localhost:5000/b"], true).exporters(Store::Docker);
        let insecure: Vec<_> = exporters
            .iter()
            .map(|one| (one.attrs["name"].as_str(), one.attrs.contains_key("registry.insecure")))
            .collect();
        assert_eq!(
            insecure,
            [("ghcr.io/x/a:latest", false), ("127.0.0.1:5000/a:latest,localhost:5000/b:latest", true)]
        );
        assert_eq!(
            build(&["127.0.0.1:5000/a", "x"], false).exporters(Store::Docker).len(),
            1,
            "nothing is pushed"
        );
    }

    #[test]
    fn sources_are_found_or_named() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            |context: &Path, file: Option<&Path>| Source::find(context, file).unwrap_err().to_string();
        let missing = directory.path().join("Dockerfile");
        assert_eq!(
            error(directory.path(), None),
            format!("there is no Dockerfile at {missing:?}; name one with -f")
        );
        std::fs::write(directory.path().join("dockerfile"), "FROM scratch").unwrap();
        assert_eq!(Source::find(directory.path(), None).unwrap().dockerfile_name, "dockerfile");
        let file = directory.path().join("dockerfile");
        assert!(
            error(&file, None)
                .ends_with("is not a directory; name the directory that holds what the Dockerfile copies")
        );
        assert!(error(&directory.path().join("no"), None).starts_with("cannot open the build context "));
        assert!(error(directory.path(), Some(directory.path())).starts_with("cannot use "));
        let found = Source::find(directory.path(), Some(&file)).unwrap();
        assert_eq!(found.dockerfile_directory, std::fs::canonicalize(directory.path()).unwrap());
    }
}
