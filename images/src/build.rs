//! One build, from the request to the stored appliance, or to files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;
use crate::component;
use crate::error::Error;
use crate::exclusive::Exclusive;
use crate::files::Key;
use crate::image;
use crate::kernel::{self, KernelError};
use crate::lock::Lock;
use crate::locking;
use crate::origin::{Images, Origins, Reuse};
use crate::output::{self, Format, Output};
use crate::packages::{Packages, PackagesError};
use crate::progress::{Progress, Stage};
use crate::provenance::{self, Provenance, ProvenanceError};
use crate::request::{Directories, Request};
use crate::root::{self, Assembly};
use crate::rootfs::verity::Verity;
use crate::rootfs::{Content, Spool, Tree, erofs};
use crate::sbom;
use crate::scratch::Scratch;
use crate::source::Source;
use crate::spec::{Definition, Places};
use crate::store::{Appliance, Parts, Store};
use crate::tools::{self, Tool};

/// The hash of this crate's code, by build.rs: the same inputs may become something else when it changes.
pub(crate) const CODE: &str = env!("MVM_IMAGES_CODE");

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

/// Where everything in an appliance would come from, told without making it: its parts are unpacked, and nothing is compiled,
/// compressed or stored.
pub fn trace(request: &Request<'_>) -> Result<Provenance, Error> {
    with_build(request, |build| {
        let images = build.images(Reuse::Kept)?;
        let (tree, containers) = build.root(&Tree::default(), &images)?;
        let mut document = Vec::new();
        Provenance::write(&tree, &containers, &mut document).map_err(ProvenanceError::from)?;
        Ok(Provenance::read(document.as_slice())?)
    })
}

/// Resolves every package anew, writes the lock and returns what changed.
pub fn lock(source: &Source, directories: &Directories, progress: &dyn Progress) -> Result<Changes, Error> {
    let _alone = Exclusive::wait(directories)?;
    let (_, changes) = locking::relock(source, directories, progress)?;
    Ok(Changes(changes))
}

pub(crate) fn with_build<T>(
    request: &Request<'_>,
    work: impl Fn(&Build<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let _alone = Exclusive::wait(request.directories)?;
    let (definition, places) = request.source.locate()?;
    locking::with_pins(request.pins, &request.source, request.directories, request.progress, |lock| {
        if definition.kernel.image.is_empty() {
            return Err(Error::NoKernel);
        }
        let store = Store::open(&request.directories.images())?;
        work(&Build::begin(request, (&definition, &places), &store, lock)?)
    })
}

/// A build under way: everything that the definition names has been looked up, and nothing made.
pub(crate) struct Build<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) definition: &'a Definition,
    /// Where its entries stand.
    places: &'a Places,
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
        (definition, places): (&'a Definition, &'a Places),
        store: &'a Store,
        lock: &'a Lock,
    ) -> Result<Self, Error> {
        let packages = Packages { directories: request.directories, lock, progress: request.progress };
        let architecture = Architecture::host().map_err(KernelError::from)?;
        let kernel = kernel::Origin::of(&definition.kernel, (store.layout(), lock), architecture)?;
        let origins = Origins::of(definition, (store.layout(), lock), architecture)?;
        let cache = &request.directories.cache;
        let scratch =
            Scratch::below(cache).map_err(|source| io_error("create a directory in", cache, source))?;
        let spool =
            Spool::below(scratch.path()).map_err(|source| io_error("create a file in", cache, source))?;
        // What others have made may ask for any file of this host.
        if let Source::Kept { appliance, .. } = &request.source
            && let Some(file) = definition.files.iter().find(|file| file.source.is_some())
        {
            return Err(Error::HostFile { appliance: appliance.clone(), path: file.path.clone() });
        }
        let sources = root::sources(definition, &spool)?;
        Ok(Self {
            request,
            definition,
            places,
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

    /// The images of containers, unpacked.
    fn images(&self, reuse: Reuse) -> Result<Images<'_>, Error> {
        self.origins.make(&self.packages, &self.spool, reuse)
    }

    /// The whole root, with what comes with the kernel, for files of another format.
    pub(crate) fn tree(&self, modules: &Tree) -> Result<Tree, Error> {
        Ok(self.root(modules, &self.images(Reuse::Kept)?)?.0)
    }

    /// The root, and who says what of its containers.
    fn root(&self, modules: &Tree, images: &Images<'_>) -> Result<(Tree, Vec<provenance::Container>), Error> {
        let assembly = Assembly { definition: self.definition, places: self.places, images };
        let containers = assembly.containers()?;
        let tree = root::assemble(modules, assembly, &containers, self.request.guest.binary, &self.sources)?;
        Ok((tree, assembly.describe(&containers)))
    }

    /// A root as an image, among what is only wanted on the way.
    pub(crate) fn erofs(&self, root: Tree) -> Result<PathBuf, Error> {
        let image = self.scratch.path().join("root.erofs");
        Stage::run(self.request.progress, "root image: compress", || {
            erofs::make(root, self.scratch.path(), &image)
        })?;
        Ok(image)
    }

    pub(crate) fn tool(&self, name: &str) -> Result<Tool, Error> {
        Ok(tools::ensure_from(name, &self.packages)?)
    }

    /// The part of the lock that this is made with, and with which it can be made again elsewhere: images too, which a lock of
    /// another definition does not name.
    fn lock(&self) -> Result<Lock, Error> {
        let (all, architecture) = (self.packages.lock, self.architecture.debian);
        let mut lock = Lock::default();
        let (mut packages, mut tools) = (self.origins.packages()?, vec!["binutils"]);
        // Says what differs in one that is not the same again; a lock of an older mvm has it under another name.
        if all.tool("erofs", architecture).is_ok() {
            tools.push("erofs");
        }
        if let kernel::Origin::Own { name, kernel } = &self.kernel {
            let component = component::name_of(name).unwrap_or(name);
            lock.set_kernel(component, architecture, kernel.configuration());
            packages.insert(kernel.materials().source.clone());
            tools.push(kernel.tool());
        }
        for tool in tools {
            lock.take_tool(tool, architecture, all).map_err(PackagesError::from)?;
            packages.extend(tools::packages_of(tool, &self.packages)?);
        }
        for name in &packages {
            lock.take_pin(name, all).map_err(PackagesError::from)?;
        }
        for name in self.definition.foreign_images() {
            lock.set_image(name, image::found(self.store.layout(), all, name)?.digest().clone());
        }
        Ok(lock)
    }

    /// Everything that the result depends on. Where the definition's entries stand is told of the result.
    pub(crate) fn inputs(&self) -> Result<String, Error> {
        let key = Key::default()
            .with(CODE)
            .with(self.architecture.debian)
            .with(serde_json::to_vec(&sorted(self.definition)?)?)
            .with(serde_json::to_vec(self.places)?)
            .with(self.request.guest.binary)
            .with(self.request.guest.crates)
            .with([u8::from(self.request.verified)])
            .with(self.kernel.key(&self.packages)?)
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
    let made = Made::of(build, inputs, Reuse::AndKeep)?;
    Ok(build.store.put(reference, &made.parts())?)
}

/// Everything that an appliance in the store consists of, among what is only wanted on the way.
pub(crate) struct Made {
    inputs: String,
    config: Vec<u8>,
    pub(crate) kernel: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) cmdline: String,
    provenance: PathBuf,
    sbom: Vec<u8>,
    lock: String,
}

impl Made {
    /// Makes it, whether it is in the store or not.
    pub(crate) fn of(build: &Build<'_>, inputs: String, reuse: Reuse) -> Result<Self, Error> {
        output::check(build, Format::KernelErofs)?;
        let lock = build.lock()?.to_text().map_err(PackagesError::from)?;
        let kernel = build.kernel()?;
        let images = build.images(reuse)?;
        let (tree, containers) = build.root(&kernel.modules, &images)?;
        let provenance = build.scratch.path().join("provenance.json");
        File::create(&provenance)
            .and_then(|file| Provenance::write(&tree, &containers, BufWriter::new(file)))
            .map_err(|source| io_error("write", &provenance, source))?;
        let root = build.erofs(tree)?;
        let cmdline = verified(build, &root)?;
        let bill = sbom::Contents {
            reference: build.request.reference,
            inputs: &inputs,
            kernel: &build.kernel,
            kernel_image: &kernel.image,
            guest: build.request.guest,
            images: &images,
            packages: &build.packages,
        };
        let sbom = bill.document()?;
        let config = serde_json::to_vec_pretty(&sorted(build.definition)?)?;
        Ok(Self { inputs, config, kernel: kernel.image, root, cmdline, provenance, sbom, lock })
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            inputs: &self.inputs,
            config: &self.config,
            kernel: &self.kernel,
            root: &self.root,
            cmdline: &self.cmdline,
            provenance: &self.provenance,
            sbom: &self.sbom,
            lock: &self.lock,
        }
    }
}

/// The command line; where it mounts the image as the root, with the hashes that are put behind the image. Where it does not,
/// nobody would read them, and a kernel of somebody else's may not know what they are.
fn verified(build: &Build<'_>, image: &Path) -> Result<String, Error> {
    let cmdline = &build.definition.kernel.cmdline;
    let is_known = build.kernel.has("CONFIG_DM_VERITY") == Some(true);
    if !build.request.verified || !is_known || !Verity::is_for(cmdline) {
        return Ok(cmdline.clone());
    }
    let verity = Stage::run(build.request.progress, "root image: hash", || Verity::append(image));
    let verity = verity.map_err(|source| io_error("hash", image, source))?;
    Ok(verity.onto(cmdline))
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
