//! What becomes of a build's result, as `docker buildx build` reads `--output`, and as BuildKit's exporters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::builder::export::Destination;
use crate::registry::ImageRef;

use super::fields::{fields, truth};

/// `type=TYPE[,KEY=VALUE...]`, a directory, or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub(super) kind: Kind,
    pub(super) destination: Option<Destination>,
    /// Names of its own, where the build has none.
    pub(super) names: Option<Vec<ImageRef>>,
    /// For the exporter, as they were written.
    pub(super) attributes: BTreeMap<String, String>,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image in the builder's store, which may be pushed from there.
    Image,
    /// An image as an archive, or as a directory (`tar=false`).
    Oci,
    /// The same as Docker has it; without a place it goes into a Docker daemon.
    Docker,
    /// The files of the last stage.
    Local,
    Tar,
    /// Nothing but what stays in the builder's cache.
    CacheOnly,
}

const KINDS: [(&str, Kind); 7] = [
    ("image", Kind::Image),
    ("registry", Kind::Image),
    ("oci", Kind::Oci),
    ("docker", Kind::Docker),
    ("local", Kind::Local),
    ("tar", Kind::Tar),
    ("cacheonly", Kind::CacheOnly),
];

/// What BuildKit's exporter is told for an image that gets no tag.
pub(super) const BY_DIGEST: &str = "push-by-digest";

impl Kind {
    /// What BuildKit calls its exporter.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// It is made of images, which have names and annotations.
    pub(super) fn is_image(self) -> bool {
        matches!(self, Self::Image | Self::Oci | Self::Docker)
    }
}

impl Output {
    /// An image in the builder's store.
    pub(super) fn image() -> Self {
        Self { kind: Kind::Image, destination: None, names: None, attributes: BTreeMap::new() }
    }

    /// What `--load` means.
    pub fn docker() -> Self {
        Self { kind: Kind::Docker, ..Self::image() }
    }

    fn to(kind: Kind, destination: Destination) -> Self {
        Self { kind, destination: Some(destination), ..Self::image() }
    }

    /// It is written to standard output, which then has nothing else.
    pub fn is_stdout(&self) -> bool {
        self.destination == Some(Destination::Stdout)
    }

    /// There is an image, or several under one name, at the end of it.
    pub fn is_image(&self) -> bool {
        self.kind.is_image()
    }

    /// It is an archive for `docker load`, which has no place for several platforms.
    pub fn is_docker_archive(&self) -> bool {
        self.kind == Kind::Docker && self.destination.is_some()
    }

    /// It puts an image into the builder's store.
    pub fn is_loaded(&self) -> bool {
        self.is_image() && self.kind != Kind::Oci && self.destination.is_none()
    }

    /// It is for a Docker daemon, which a builder of another kind has none of.
    pub(super) fn needs_docker(&self) -> bool {
        self.kind == Kind::Docker && self.destination.is_none()
    }

    pub(super) fn is_pushed(&self) -> bool {
        self.kind == Kind::Image && self.has("push")
    }

    /// It is pushed under its digest alone, and no tag is made or moved.
    pub(super) fn is_by_digest(&self) -> bool {
        self.is_pushed() && self.has(BY_DIGEST)
    }

    fn has(&self, key: &str) -> bool {
        self.attributes.get(key).is_some_and(|value| value == "true")
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::to(Kind::Tar, Destination::Stdout));
        }
        let fields = fields(text)?;
        if let [(_, None)] = fields.as_slice() {
            return Ok(Self::to(Kind::Local, Destination::Directory(text.into())));
        }
        let (mut kind, mut place, mut names) = (None, None, None);
        let mut attributes = BTreeMap::new();
        for (key, value) in fields {
            let value = value.ok_or_else(|| format!("{text:?}: {key:?} has no value; write KEY=VALUE"))?;
            match key.as_str() {
                "type" => kind = Some(value),
                "dest" => place = Some(value),
                "name" => {
                    let parsed: Result<_, _> = value.split(',').map(str::parse).collect();
                    names =
                        Some(parsed.map_err(|error: crate::registry::InvalidImageRef| error.to_string())?);
                }
                // In the spelling that everybody understands.
                "push" | BY_DIGEST => drop(attributes.insert(key, truth(&value)?.to_string())),
                "context" => {
                    return Err(format!(
                        "{text:?}: the image goes to the builder's own daemon, and to no other; write dest=FILE, and load that there"
                    ));
                }
                _ => drop(attributes.insert(key, value)),
            }
        }
        let name =
            kind.ok_or_else(|| format!("{text:?} has no type; write type=TYPE, or the name of a directory"))?;
        let known = KINDS.iter().find(|(known, _)| *known == name);
        let known = known.ok_or_else(|| {
            format!(
                "there is no output of the type {name:?}; there are {}",
                KINDS.map(|(name, _)| name).join(", ")
            )
        });
        let kind = known?.1;
        if name == "registry" {
            attributes.insert("push".to_owned(), "true".to_owned());
        }
        if kind == Kind::Local && attributes.contains_key("mode") {
            return Err(format!("{text:?}: files are put beside what the directory has; leave mode out"));
        }
        let destination = destination(text, kind, place, &mut attributes)?;
        Ok(Self { kind, destination, names, attributes })
    }
}

/// Where an output of a kind goes.
fn destination(
    text: &str,
    kind: Kind,
    place: Option<String>,
    attributes: &mut BTreeMap<String, String>,
) -> Result<Option<Destination>, String> {
    let is_directory = attributes.get("tar").is_some_and(|tar| tar == "false");
    match (kind, place) {
        (Kind::Image | Kind::CacheOnly, Some(_)) => {
            Err(format!("{text:?}: what stays in the builder has no dest"))
        }
        (Kind::Image | Kind::CacheOnly | Kind::Docker, None) => Ok(None),
        (Kind::Local, None) => Err(format!("{text:?} has no dest; write dest=DIRECTORY")),
        (Kind::Local, Some(place)) if place == "-" => {
            Err(format!("{text:?}: a directory cannot go to standard output; write type=tar"))
        }
        (Kind::Oci, None) if is_directory => Err(format!("{text:?} has no dest; write dest=DIRECTORY")),
        (Kind::Oci | Kind::Tar, None) => Ok(Some(Destination::Stdout)),
        (Kind::Local, Some(place)) => Ok(Some(Destination::Directory(place.into()))),
        (_, Some(place)) if place == "-" => Ok(Some(Destination::Stdout)),
        (Kind::Oci | Kind::Docker, Some(place)) if is_directory => {
            Ok(Some(Destination::Layout(place.into())))
        }
        (_, Some(place)) => Ok(Some(Destination::File(PathBuf::from(place)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Kind, Option<Destination>) {
        let output: Output = text.parse().unwrap();
        (output.kind, output.destination)
    }

    #[test]
    fn every_spelling_is_understood() {
        let directory = |path: &str| Some(Destination::Directory(path.into()));
        assert_eq!(parsed("out"), (Kind::Local, directory("out")));
        assert_eq!(parsed("type=local,dest=out"), (Kind::Local, directory("out")));
        assert_eq!(parsed("-"), (Kind::Tar, Some(Destination::Stdout)));
        assert_eq!(parsed("type=tar"), (Kind::Tar, Some(Destination::Stdout)));
        assert_eq!(parsed("type=oci,dest=-"), (Kind::Oci, Some(Destination::Stdout)));
        assert_eq!(parsed("type=oci,dest=a.tar"), (Kind::Oci, Some(Destination::File("a.tar".into()))));
        assert_eq!(parsed("type=oci,dest=a,tar=false"), (Kind::Oci, Some(Destination::Layout("a".into()))));
        assert_eq!(parsed("type=docker"), (Kind::Docker, None));
        assert_eq!(parsed("type=cacheonly"), (Kind::CacheOnly, None));
        let output: Output = "type=registry,\"name=a,b:1\",compression=zstd".parse().unwrap();
        assert!(output.is_pushed() && output.names.unwrap().len() == 2);
        assert_eq!(output.attributes["compression"], "zstd");
        assert_eq!(Kind::Image.name(), "image");
        let output: Output = "type=image,push-by-digest=1".parse().unwrap();
        assert!(!output.is_by_digest(), "nothing is pushed");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("dest=x", "\"dest=x\" has no type; write type=TYPE, or the name of a directory"),
            (
                "type=zip",
                "there is no output of the type \"zip\"; there are image, registry, oci, docker, local,",
            ),
            ("type=local", "\"type=local\" has no dest; write dest=DIRECTORY"),
            ("type=local,dest=-", "a directory cannot go to standard output; write type=tar"),
            ("type=oci,tar=false", "has no dest; write dest=DIRECTORY"),
            ("type=image,dest=x", "what stays in the builder has no dest"),
            ("type=image,push", "\"push\" has no value; write KEY=VALUE"),
            ("type=image,push-by-digest=maybe", "\"maybe\" is neither true nor false"),
            ("type=local,dest=x,mode=delete", "files are put beside what the directory has; leave mode out"),
            ("type=image,name=A", "\"A\" is not the name of an image"),
        ] {
            let error = text.parse::<Output>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
