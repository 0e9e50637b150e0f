//! One build, from the request to the stored appliance, or to files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;
use crate::error::Error;
use crate::exclusive::Exclusive;
use crate::files::Key;
use crate::kernel::{self, KernelError};
use crate::lock::Lock;
use crate::locking;
use crate::origin::Origins;
use crate::output::{self, Format, Output};
use crate::packages::Packages;
use crate::progress::{Progress, Stage};
use crate::request::{Directories, Request};
use crate::root;
use crate::rootfs::{Content, Spool, Tree, erofs};
use crate::scratch::Scratch;
use crate::source::Source;
use crate::spec::Definition;
use crate::store::{Appliance, Parts, Store};
use crate::tools::{self, Tool};
use crate::unserved;

/// The hash of this crate's code, by build.rs: the same inputs may become something else when it changes.
const CODE: &str = env!("MVM_IMAGES_CODE");

/// What a lock moved, a line for each package: `forky/amd64/docker.io 28.5.2+dfsg4-5 -> 28.5.3+dfsg1-1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<String>);

/// Builds the appliance, or returns the stored one when nothing that goes into it has changed. Blocks, for minutes when
/// nothing is cached: an async caller gives it a thread of its own. Two builds at once wait for each other.
pub fn build(request: &Request<'_>) -> Result<Appliance, Error> {
    with_build(request, stored)
}

/// Builds it as files of a format, and returns which. Blocks, as [`build`] does.
pub fn write(request: &Request<'_>, output: &Output) -> Result<Vec<PathBuf>, Error> {
    with_build(request, |build| output::write(build, output))
}

/// Resolves every package anew, writes the lock and returns what changed.
pub fn lock(source: &Source, directories: &Directories, progress: &dyn Progress) -> Result<Changes, Error> {
    let _alone = Exclusive::wait(directories)?;
    let (_, changes) = locking::relock(source, directories, progress)?;
    Ok(Changes(changes))
}

fn with_build<T>(request: &Request<'_>, work: impl Fn(&Build<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let _alone = Exclusive::wait(request.directories)?;
    let definition = request.source.read()?;
    locking::with_pins(request.pins, &request.source, request.directories, request.progress, |lock| {
        unserved::check(&definition)?;
        let store = Store::open(&request.directories.images())?;
        work(&Build::begin(request, &definition, &store, lock)?)
    })
}

/// A build under way: everything that the definition names has been looked up, and nothing made.
pub(crate) struct Build<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) definition: &'a Definition,
    pub(crate) architecture: Architecture,
    pub(crate) packages: Packages<'a>,
    /// For what is only wanted on the way.
    pub(crate) scratch: Scratch,
    pub(crate) spool: Spool,
    store: &'a Store,
    kernel: kernel::Origin,
    origins: Origins<'a>,
    sources: BTreeMap<String, Content>,
}

impl<'a> Build<'a> {
    fn begin(
        request: &'a Request<'a>,
        definition: &'a Definition,
        store: &'a Store,
        lock: &'a Lock,
    ) -> Result<Self, Error> {
        let packages = Packages { directories: request.directories, lock, progress: request.progress };
        let architecture = Architecture::host().map_err(KernelError::from)?;
        let kernel = kernel::Origin::of(&definition.kernel, store.layout(), architecture)?;
        let origins = Origins::of(definition, store.layout(), architecture)?;
        let cache = &request.directories.cache;
        let scratch =
            Scratch::below(cache).map_err(|source| io_error("create a directory in", cache, source))?;
        let spool =
            Spool::below(scratch.path()).map_err(|source| io_error("create a file in", cache, source))?;
        let sources = root::sources(definition, &spool)?;
        Ok(Self {
            request,
            definition,
            architecture,
            packages,
            scratch,
            spool,
            store,
            kernel,
            origins,
            sources,
        })
    }

    /// Which kernel it is; not made yet.
    pub(crate) fn kernel_origin(&self) -> &kernel::Origin {
        &self.kernel
    }

    /// Makes the kernel, or takes it out of its image.
    pub(crate) fn kernel(&self) -> Result<kernel::Made, Error> {
        self.kernel.make(&self.packages, self.store.layout(), &self.spool, self.scratch.path())
    }

    /// The whole root, with what comes with the kernel.
    pub(crate) fn root(&self, modules: &Tree) -> Result<Tree, Error> {
        let images = self.origins.make(&self.packages, &self.spool)?;
        root::assemble(modules, self.request, self.definition, &images, &self.sources)
    }

    /// A root as an image, among what is only wanted on the way.
    pub(crate) fn erofs(&self, root: &Tree) -> Result<PathBuf, Error> {
        let mkfs = self.tool("mkfs-erofs")?;
        let image = self.scratch.path().join("root.erofs");
        Stage::run(self.request.progress, "root image: compress", || {
            erofs::make(&mkfs, root, self.scratch.path(), &image)
        })?;
        Ok(image)
    }

    pub(crate) fn tool(&self, name: &str) -> Result<Tool, Error> {
        Ok(tools::ensure_from(name, &self.packages)?)
    }

    /// Everything that the result depends on.
    fn inputs(&self) -> Result<String, Error> {
        let key = Key::default()
            .with(CODE)
            .with(self.architecture.debian)
            .with(serde_json::to_vec(&sorted(self.definition)?)?)
            .with(self.request.guest)
            .with(self.kernel.key(&self.packages)?)
            .with(tools::key("mkfs-erofs", &self.packages)?)
            .with(tools::key("binutils", &self.packages)?);
        let mut key = self.origins.key(key, &self.packages)?;
        for (path, content) in &self.sources {
            key = key.with(path).with(content.digest());
        }
        Ok(key.finish())
    }
}

/// The appliance in the store, made unless it is there.
fn stored(build: &Build<'_>) -> Result<Appliance, Error> {
    let (reference, inputs) = (build.request.reference, build.inputs()?);
    if let Some(made) = build.store.find_made_of(reference, &inputs)? {
        return Ok(made);
    }
    output::check(build, Format::KernelErofs)?;
    let kernel = build.kernel()?;
    let root = build.erofs(&build.root(&kernel.modules)?)?;
    let config = serde_json::to_vec_pretty(&sorted(build.definition)?)?;
    let parts = Parts {
        inputs: &inputs,
        config: &config,
        kernel: &kernel.image,
        root: &root,
        cmdline: &build.definition.kernel.cmdline,
    };
    Ok(build.store.put(reference, &parts)?)
}

/// The definition with sorted keys: the runtime types keep some in hash tables, whose order is another each time.
fn sorted(definition: &Definition) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(definition)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_definition_is_the_same_bytes() {
        let keys: String = ('a'..='h').map(|key| format!("memory.{key}: '1', ")).collect();
        let text = format!(
            "{{kernel: {{image: k}}, services: [{{name: a, image: x, resources: {{unified: {{{keys}}}}}}}]}}"
        );
        let bytes = || {
            let definition = Definition::parse("a.yml", &text).unwrap();
            serde_json::to_string(&sorted(&definition).unwrap()).unwrap()
        };
        let first = bytes();
        assert!(first.contains(r#""memory.a":"1","memory.b":"1""#), "{first}");
        assert_eq!(bytes(), first);
    }
}
