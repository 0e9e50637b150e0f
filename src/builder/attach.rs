//! What a build brings with it and its session serves, made ready before the builder is asked for anything; and what is left to do
//! here once the builder has done its part.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::CacheOptionsEntry;
use images::{CONTAINERD_NAME, Layout, LayoutError};
use oci_spec::image::Descriptor;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use super::export::{Destination, ExportError, Staged};
use super::keyring::{Keyring, KeyringError};
use super::request::{Archive, Build, Cache, Export, Local, NamedContext, Place, SecretError, Ssh, Store};
use super::session::{Agent, Agents, Directories, LayoutStore, Layouts, Reader, Results};
use crate::registry::ImageRef;

/// The name under which the daemon asks for a layout that an image is written to.
const EXPORT: &str = "export";

/// Something that a build needs of this host cannot be had.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("a reader of secrets died")]
    Reader(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("{0}")]
    Agent(String),
    #[error("{0:?}, which --ssh names, is neither a socket nor a key")]
    NoAgent(PathBuf),
    #[error("cannot use the image layout {directory:?}")]
    Layout {
        directory: PathBuf,
        #[source]
        source: LayoutError,
    },
    #[error("cannot read the context, which was kept in a temporary file")]
    Spooled(#[source] io::Error),
    #[error("only one image layout can be written at a time; write the others with type=oci,dest=FILE")]
    TwoLayouts,
    #[error("{0:?} is a directory; an archive needs the name of a file")]
    Directory(PathBuf),
    #[error("there is no directory {0:?} for the output; make it first")]
    NoDirectory(PathBuf),
}

/// What the builder's answer should have had.
#[derive(Debug, Error)]
pub enum FinishError {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("the build is done, but the image layout {directory:?} cannot be written")]
    Layout {
        directory: PathBuf,
        #[source]
        source: LayoutError,
    },
    #[error(
        "the build is done, but the builder did not say what it wrote to the image layout {0:?}; write to a file, or build with a newer BuildKit"
    )]
    Unsaid(PathBuf),
}

/// Everything, for one build.
pub(super) struct Attached {
    pub(super) exports: Vec<Export>,
    /// The caches that are there.
    pub(super) imports: Vec<CacheOptionsEntry>,
    /// Directories that a cache was to be read from, and that have none yet.
    pub(super) without_cache: Vec<PathBuf>,
    pub(super) directories: Directories,
    pub(super) agents: Agents,
    pub(super) results: Results,
    pub(super) layouts: Layouts,
    /// The context, where it is a stream.
    pub(super) upload: Option<Reader>,
    /// What is left to do once the builder has answered.
    pub(super) rest: Rest,
}

/// What a build leaves to do here. It keeps what has to last as long as the build.
pub(super) struct Rest {
    staged: Arc<Staged>,
    written: Vec<Written>,
    _keyrings: Vec<Keyring>,
}

/// A layout that is to name what was written to it.
struct Written {
    directory: PathBuf,
    called: Called,
}

enum Called {
    /// A cache, by this tag.
    Tag(String),
    /// An image, by its names.
    Image,
}

impl Attached {
    pub(super) fn to(build: &Build, store: Store) -> Result<Self, AttachError> {
        let exports = build.exports(store);
        for destination in exports.iter().filter_map(|export| export.destination.as_ref()) {
            check(destination)?;
        }
        let (agents, keyrings) = agents(build)?;
        let results = Results::to(exports.iter().map(|export| export.destination.clone()).collect());
        let rest = Rest { staged: results.staged(), written: Vec::new(), _keyrings: keyrings };
        let mut attached = Self {
            imports: Vec::new(),
            without_cache: Vec::new(),
            directories: build
                .source
                .directories()
                .into_iter()
                .map(|(name, path)| (name, path.into()))
                .collect(),
            agents,
            results,
            layouts: Layouts::new(),
            upload: build.source.archive().map(reader_of).transpose()?,
            exports,
            rest,
        };
        attached.contexts(build)?;
        attached.caches(build)?;
        attached.layout_outputs()?;
        Ok(attached)
    }

    fn contexts(&mut self, build: &Build) -> Result<(), AttachError> {
        for (number, named) in build.source.named().iter().enumerate() {
            if let Place::Layout { directory, .. } = &named.place {
                self.serve(NamedContext::store_id(number), directory, false)?;
            }
        }
        Ok(())
    }

    fn caches(&mut self, build: &Build) -> Result<(), AttachError> {
        for (number, cache) in build.cache_from.iter().enumerate() {
            let mut digest = None;
            if let Some(Local { directory, tag }) = &cache.local {
                if !directory.join("index.json").is_file() {
                    self.without_cache.push(directory.clone());
                    continue;
                }
                let layout = self.serve(Cache::import_store_id(number), directory, false)?;
                let found = layout.find(tag).map_err(layout_error(directory))?;
                digest = found.map(|found| found.digest().to_string());
                if digest.is_none() {
                    self.without_cache.push(directory.clone());
                }
            }
            self.imports.extend(cache.import(number, digest));
        }
        for (number, cache) in build.cache_to.iter().enumerate() {
            if let Some(local) = &cache.local {
                self.serve(Cache::export_store_id(number), &local.directory, true)?;
                let Local { directory, tag } = local.clone();
                self.rest.written.push(Written { directory, called: Called::Tag(tag) });
            }
        }
        Ok(())
    }

    fn layout_outputs(&mut self) -> Result<(), AttachError> {
        let destinations: Vec<_> =
            self.exports.iter().filter_map(|export| export.destination.clone()).collect();
        for destination in destinations {
            let Destination::Layout(directory) = destination else { continue };
            if self.layouts.contains_key(EXPORT) {
                return Err(AttachError::TwoLayouts);
            }
            self.serve(EXPORT.to_owned(), &directory, true)?;
            self.rest.written.push(Written { directory, called: Called::Image });
        }
        Ok(())
    }

    fn serve(&mut self, id: String, directory: &Path, is_writable: bool) -> Result<Layout, AttachError> {
        let layout = Layout::open(directory).map_err(layout_error(directory))?;
        self.layouts.insert(id, LayoutStore { layout: layout.clone(), is_writable });
        Ok(layout)
    }
}

impl Rest {
    /// Nothing of what has come is kept; what could not be written here, if that was it.
    pub(super) async fn give_up(self) -> Option<FinishError> {
        self.staged.give_up().await;
        self.staged.take_failure().map(FinishError::Export)
    }

    /// Results go to their places, and layouts name what was written.
    pub(super) fn finish(self, response: &HashMap<String, String>) -> Result<(), FinishError> {
        self.staged.commit()?;
        for Written { directory, called } in self.written {
            let named = called.of(response).ok_or_else(|| FinishError::Unsaid(directory.clone()))?;
            for (tag, descriptor) in named {
                let named = Layout::open(&directory).and_then(|layout| layout.tag(&tag, descriptor));
                named.map_err(|source| FinishError::Layout { directory: directory.clone(), source })?;
            }
        }
        Ok(())
    }
}

impl Called {
    /// The tags, each for what the builder says that it wrote. As BuildKit does, an image has its tag for its name in a layout, with
    /// the whole name beside it.
    fn of(self, response: &HashMap<String, String>) -> Option<Vec<(String, Descriptor)>> {
        let written = |key: &str| response.get(key).and_then(|text| descriptor(text));
        match self {
            Self::Tag(tag) => Some(vec![(tag, written("cache.manifest")?)]),
            Self::Image => {
                let image = written("containerimage.descriptor")?;
                let names = response.get("image.name").into_iter().flat_map(|names| names.split(','));
                let named = names.filter_map(|name| {
                    let mut image = image.clone();
                    let mut annotations = image.annotations().clone().unwrap_or_default();
                    annotations.insert(CONTAINERD_NAME.to_owned(), name.to_owned());
                    image.set_annotations(Some(annotations));
                    Some((name.parse::<ImageRef>().ok()?.tag()?.to_owned(), image))
                });
                let named: Vec<_> = named.collect();
                Some(if named.is_empty() { vec![("latest".to_owned(), image)] } else { named })
            }
        }
    }
}

fn layout_error(directory: &Path) -> impl FnOnce(LayoutError) -> AttachError {
    let directory = directory.to_owned();
    move |source| AttachError::Layout { directory, source }
}

/// A descriptor of an answer: JSON, as it is or in base64.
fn descriptor(text: &str) -> Option<Descriptor> {
    let decoded = STANDARD.decode(text).ok();
    serde_json::from_slice(decoded.as_deref().unwrap_or(text.as_bytes())).ok()
}

/// Whether something can be written there at all.
fn check(destination: &Destination) -> Result<(), AttachError> {
    let Destination::File(path) = destination else { return Ok(()) };
    if path.is_dir() {
        return Err(AttachError::Directory(path.clone()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent.filter(|parent| !parent.is_dir()) {
        Some(parent) => Err(AttachError::NoDirectory(parent.to_owned())),
        None => Ok(()),
    }
}

/// The agents that were given; a repository that is fetched through ssh has the user's own in any case.
fn agents(build: &Build) -> Result<(Agents, Vec<Keyring>), AttachError> {
    let mut given = build.agents.clone();
    if given.is_empty() && build.source.needs_ssh() {
        given.push(Ssh::of_user().map_err(AttachError::Agent)?);
    }
    let (mut agents, mut keyrings) = (Agents::default(), Vec::new());
    for ssh in given {
        let is_socket = |path: &Path| fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let socket = match ssh.paths.as_slice() {
            [socket] if is_socket(socket) => socket.clone(),
            keys => {
                if let Some(wrong) = keys.iter().find(|key| ssh.is_raw || !key.is_file()) {
                    return Err(AttachError::NoAgent(wrong.clone()));
                }
                let keyring = Keyring::of(keys)?;
                let socket = keyring.socket();
                keyrings.push(keyring);
                socket
            }
        };
        agents.0.insert(ssh.id, Agent { socket, is_raw: ssh.is_raw });
    }
    Ok((agents, keyrings))
}

fn reader_of(archive: &Archive) -> Result<Reader, AttachError> {
    Ok(match archive {
        Archive::Stdin(head) => Box::pin(io::Cursor::new(head.clone()).chain(tokio::io::stdin())),
        Archive::Spooled(file) => {
            let file = file.reopen().map_err(AttachError::Spooled)?;
            Box::pin(tokio::fs::File::from_std(file))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_by_its_tags_in_a_layout() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = serde_json::json!({"mediaType": "a/b", "digest": digest, "size": 2}).to_string();
        let called = |names: Option<&str>| {
            let response = [("containerimage.descriptor", Some(image.as_str())), ("image.name", names)];
            let response = response.into_iter().filter_map(|(key, value)| Some((key, value?)));
            let response = response.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let named = Called::Image.of(&response).unwrap().into_iter();
            let whole = |image: &Descriptor| image.annotations().as_ref()?.get(CONTAINERD_NAME).cloned();
            named.map(|(tag, image)| (tag, whole(&image).unwrap_or_default())).collect::<Vec<_>>()
        };
        let owned = |tag: &str, whole: &str| (tag.to_owned(), whole.to_owned());
        assert_eq!(called(None), [owned("latest", "")]);
        let names = ["docker.io/library/a:1", "h:5000/b:latest"];
        let wanted = [owned("1", names[0]), owned("latest", names[1])];
        assert_eq!(called(Some(&names.join(","))), wanted);
        assert!(
            Called::Tag("x".to_owned()).of(&HashMap::new()).is_none(),
            "it was not said what was written"
        );
    }
}
