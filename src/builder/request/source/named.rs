//! Further contexts, as `docker buildx build` reads `--build-context`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use images::Layout;

use super::find::is_remote;
use crate::registry::ImageRef;

/// `NAME=PLACE`: a directory, an address, `docker-image://IMAGE`, or `oci-layout://DIRECTORY[:TAG][@DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    pub(super) name: String,
    pub(in crate::builder) place: Place,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::builder) enum Place {
    /// Absolute.
    Directory(PathBuf),
    /// The builder fetches it.
    Remote(String),
    /// An image in a layout of this host.
    Layout { directory: PathBuf, digest: String },
}

const IMAGE: &str = "docker-image://";
const LAYOUT: &str = "oci-layout://";

impl NamedContext {
    /// The name under which the daemon asks for it as a directory: that of the main context is taken.
    pub(super) fn local_name(&self) -> String {
        match self.name.as_str() {
            name @ ("context" | "dockerfile") => format!("_{name}"),
            name => name.to_owned(),
        }
    }

    /// Where the daemon finds it; `number` is its place among all of them.
    pub(super) fn address(&self, number: usize) -> String {
        match &self.place {
            Place::Directory(_) => format!("local:{}", self.local_name()),
            Place::Remote(address) => address.clone(),
            Place::Layout { digest, .. } => format!("{LAYOUT}{}@{digest}", store(number)),
        }
    }

    /// The name under which the daemon asks for the contents of a layout.
    pub(in crate::builder) fn store_id(number: usize) -> String {
        format!("oci:{}", store(number))
    }
}

fn store(number: usize) -> String {
    format!("context-{number}")
}

impl FromStr for NamedContext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, place) = text
            .split_once('=')
            .filter(|(name, place)| !name.is_empty() && !place.is_empty())
            .ok_or_else(|| {
                format!(
                    "{text:?} is no context; write NAME=DIRECTORY, NAME=ADDRESS or NAME=docker-image://IMAGE"
                )
            })?;
        // As the frontend looks for it: of images without what they are understood to have.
        let name =
            name.parse::<ImageRef>().map_err(|error| format!("{text:?} has no name: {error}"))?.familiar();
        let place = if place.starts_with(IMAGE) || is_remote(place) {
            Place::Remote(place.to_owned())
        } else if let Some(layout) = place.strip_prefix(LAYOUT) {
            layout_at(layout)?
        } else if place.starts_with("target:") {
            return Err(format!("{text:?}: a target of another build is for `mvm bake`"));
        } else {
            let directory = std::fs::canonicalize(place).ok().filter(|path| path.is_dir());
            Place::Directory(
                directory.ok_or_else(|| format!("{text:?}: {place:?} is no directory, and no address"))?,
            )
        };
        Ok(Self { name, place })
    }
}

/// `DIRECTORY[:TAG][@DIGEST]`.
fn layout_at(text: &str) -> Result<Place, String> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let (directory, tag) = rest.split_once(':').map_or((rest, None), |(rest, tag)| (rest, Some(tag)));
    let directory = Path::new(directory);
    if !directory.join("index.json").is_file() {
        return Err(format!("{directory:?} is no image layout: it has no index.json"));
    }
    let digest = match digest {
        Some(digest) => digest.to_owned(),
        None => resolve(directory, tag)?,
    };
    Ok(Place::Layout { directory: directory.to_owned(), digest })
}

/// The digest of what has a tag; without one, of what is called `latest`, or alone there.
fn resolve(directory: &Path, tag: Option<&str>) -> Result<String, String> {
    let failed = |error: images::LayoutError| format!("cannot read the image layout {directory:?}: {error}");
    let layout = Layout::open(directory).map_err(failed)?;
    let found = layout.find(tag.unwrap_or("latest")).map_err(failed)?;
    let found = match (found, tag) {
        (None, None) => layout.only().map_err(failed)?,
        (found, _) => found,
    };
    let found = found.ok_or_else(|| {
        format!(
            "the image layout {directory:?} has nothing called {:?}; write :TAG or @DIGEST behind it",
            tag.unwrap_or("latest")
        )
    })?;
    Ok(found.digest().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(directory.path()).unwrap();
        let named: NamedContext = format!("a={}", path.display()).parse().unwrap();
        assert_eq!((named.address(0).as_str(), &named.place), ("local:a", &Place::Directory(path.clone())));
        let named: NamedContext = format!("context={}", path.display()).parse().unwrap();
        assert_eq!(named.address(0), "local:_context");
        for address in ["docker-image://alpine:3", "https://h/r.git#main", "git@h:r.git"] {
            assert_eq!(format!("x={address}").parse::<NamedContext>().unwrap().address(3), address);
        }
        for name in ["alpine", "alpine:latest", "docker.io/library/alpine"] {
            assert_eq!(format!("{name}=docker-image://x").parse::<NamedContext>().unwrap().name, "alpine");
        }
        let layout = Layout::open(&path).unwrap();
        let manifest = layout.add_bytes("application/vnd.oci.image.manifest.v1+json", b"{}").unwrap();
        let digest = manifest.digest().to_string();
        let address = |text: &str| {
            format!("x=oci-layout://{}{text}", path.display()).parse().map(|x: NamedContext| x.address(3))
        };
        assert!(
            address("")
                .unwrap_err()
                .contains("has nothing called \"latest\"; write :TAG or @DIGEST behind it")
        );
        assert_eq!(address(&format!("@{digest}")).unwrap(), format!("oci-layout://context-3@{digest}"));
        assert_eq!(NamedContext::store_id(3), "oci:context-3");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, wanted) in [
            ("x", "\"x\" is no context; write NAME=DIRECTORY, NAME=ADDRESS or NAME=docker-image://IMAGE"),
            ("=x", "is no context"),
            ("Alpine=docker-image://x", "\"Alpine\" has capital letters"),
            ("x=", "is no context"),
            ("x=/nowhere-at-all", "\"/nowhere-at-all\" is no directory, and no address"),
            ("x=oci-layout:///nowhere", "\"/nowhere\" is no image layout: it has no index.json"),
            ("x=target:y", "a target of another build is for `mvm bake`"),
        ] {
            let error = text.parse::<NamedContext>().unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
