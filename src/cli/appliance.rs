//! The appliance that an instance boots: made at the first run, found afterwards.

use std::path::{self, Path, PathBuf};

use images::progress::Progress;
use images::provenance::Provenance;
use images::rebuild::{self, Difference};
use images::signature::Keys;
use images::{
    Appliance, DEFAULT_REFERENCE, Directories, Guest, Layout, Output, Pins, Request, Source, Store, image,
};

use super::image::{Mirrors, bring, bring_parts, definition};
use super::{Context, Failure, progress};
use crate::registry::ImageRef;

/// The guest binary, built by build.rs.
static GUEST: Guest<'static> = Guest {
    binary: include_bytes!(env!("MVM_EMBEDDED_GUEST")),
    crates: include_str!(env!("MVM_GUEST_CRATES")),
};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "this mvm was built without a guest binary; build it again with MVM_GUEST_BINARY set to one built on Linux"
    )]
    NoGuest,
    #[error(
        "there is no appliance named {0}; `mvm image ls` shows which there are, `mvm image build FILE` makes one, and one of a registry is named with its host"
    )]
    Unknown(String),
    #[error("{0} is an image of a container, and no appliance that a machine could boot")]
    NotOne(String),
}

/// Where this user's appliances, tools and packages lie.
pub(super) fn directories(context: &Context) -> Directories {
    Directories { data: context.home.data.clone(), cache: context.home.cache.clone() }
}

/// What `--image` means: the text with places made whole, so that a later start from another directory finds the same.
pub(super) fn whole(image: &str) -> String {
    let path = Path::new(image);
    match path::absolute(path) {
        Ok(whole) if path.exists() => whole.display().to_string(),
        _ => image.to_owned(),
    }
}

/// Finds what an instance boots, or makes it, or brings it: the appliance that mvm carries, that of a definition, of a layout
/// or archive, one that is here by that name, or one of a registry. What takes long is done once.
pub(super) async fn ensure(
    context: &Context,
    image: Option<&str>,
    mirrors: &Mirrors,
) -> Result<Appliance, Failure> {
    let directories = directories(context);
    let Some(name) = image.filter(|name| *name != DEFAULT_REFERENCE) else {
        return tokio::task::spawn_blocking(move || carried(&directories)).await?;
    };
    if is_definition(name) {
        let source = definition::source(vec![name.to_owned()]).await?;
        bring_parts(context, &source, mirrors, false).await?;
        let name = name.to_owned();
        return tokio::task::spawn_blocking(move || {
            Order::of(source, &name).build(&directories, progress::to_stderr().as_ref())
        })
        .await?;
    }
    let (path, at) = (PathBuf::from(name), directories.clone());
    if path.exists() {
        tokio::task::spawn_blocking(move || image::import_appliance(&at, &path)).await??;
    } else if Layout::open(&directories.images())?.find(name)?.is_none() {
        let image = in_a_registry(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        bring(&directories, &image, mirrors, false, progress::to_stderr().as_ref()).await?;
    }
    let store = Store::open(&directories.images())?;
    let found = store.find(name)?.ok_or_else(|| Error::NotOne(name.to_owned()))?;
    if found.is_foreign {
        let keys = trusted(context)?;
        if !keys.is_empty() {
            let key = store.signed_by(name, &found, &keys)?;
            eprintln!("{name} is signed with {key}");
        }
    }
    Ok(found)
}

/// The keys that this user trusts. Where there are any, no appliance that came from elsewhere is booted without a signature.
pub(super) fn trusted(context: &Context) -> Result<Keys, Failure> {
    Ok(Keys::of(&context.home.config.join("keys"))?)
}

fn is_definition(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yml" | "yaml"))
}

/// A name that says which registry it is of: any other may be a slip of the pen, and is asked of nobody.
fn in_a_registry(name: &str) -> Option<ImageRef> {
    let image: ImageRef = name.parse().ok()?;
    name.starts_with(&format!("{}/", image.registry())).then_some(image)
}

/// The appliance that this mvm carries.
fn carried(directories: &Directories) -> Result<Appliance, Failure> {
    if Store::open(&directories.images())?.find(DEFAULT_REFERENCE)?.is_none() {
        eprintln!("{}", estimate(directories));
    }
    Order::of(Source::Embedded, DEFAULT_REFERENCE).build(directories, progress::to_stderr().as_ref())
}

/// What is to be made.
pub(super) struct Order<'a> {
    pub(super) source: Source,
    pub(super) pins: Pins,
    /// Whether the root is held against its hashes as it is read.
    pub(super) verified: bool,
    pub(super) name: &'a str,
}

impl<'a> Order<'a> {
    /// With everything that is locked, and a root that is verified.
    pub(super) fn of(source: Source, name: &'a str) -> Self {
        Self { source, pins: Pins::Exact, verified: true, name }
    }

    /// Makes an appliance, unless nothing has changed since it was made.
    pub(super) fn build(
        self,
        directories: &Directories,
        progress: &dyn Progress,
    ) -> Result<Appliance, Failure> {
        Ok(images::build(&self.request(directories, progress)?)?)
    }

    /// Makes it as files of another format; which they are.
    pub(super) fn write(
        self,
        output: &Output,
        directories: &Directories,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, Failure> {
        Ok(images::write(&self.request(directories, progress)?, output)?)
    }

    /// Makes it once more; what differs first from the one that is there.
    pub(super) fn rebuild(
        self,
        directories: &Directories,
        progress: &dyn Progress,
    ) -> Result<Option<Difference>, Failure> {
        Ok(rebuild::rebuild(&self.request(directories, progress)?)?)
    }

    /// Where everything in it would come from.
    pub(super) fn trace(
        self,
        directories: &Directories,
        progress: &dyn Progress,
    ) -> Result<Provenance, Failure> {
        Ok(images::trace(&self.request(directories, progress)?)?)
    }

    fn request<'b>(
        self,
        directories: &'b Directories,
        progress: &'b dyn Progress,
    ) -> Result<Request<'b>, Error>
    where
        'a: 'b,
    {
        if GUEST.binary.is_empty() {
            return Err(Error::NoGuest);
        }
        let Self { source, pins, verified, name } = self;
        Ok(Request { source, guest: GUEST, directories, pins, verified, reference: name, progress })
    }
}

/// What the first run costs. The kernel takes about 13 minutes of one core, the rest is downloads.
pub(super) fn estimate(directories: &Directories) -> String {
    let kernels =
        std::fs::read_dir(directories.cache.join("kernels")).is_ok_and(|mut found| found.next().is_some());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let minutes = if kernels { 2 } else { 3_usize.saturating_add(13_usize.div_ceil(cores)) };
    format!("making the appliance, once: about {minutes} minutes, most of it for its kernel and downloads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_with_a_registry_is_asked_of_one() {
        for here in ["my", "my/appliance:1", "Upper", "mvm/appliance:latest"] {
            assert!(in_a_registry(here).is_none(), "{here}");
        }
        for there in ["localhost/a", "127.0.0.1:5000/a:1", "docker.io/a/b", "ghcr.example/a@sha256:00"] {
            assert_eq!(in_a_registry(there).is_some(), !there.ends_with(":00"), "{there}");
        }
    }

    #[test]
    fn a_place_is_kept_as_a_whole_path() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(whole("Cargo.toml"), here.join("Cargo.toml").display().to_string());
        assert_eq!(whole("no-such-thing"), "no-such-thing");
    }
}
