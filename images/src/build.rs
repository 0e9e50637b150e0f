//! One build, from the request to the stored appliance.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use crate::architecture::Architecture;
use crate::component;
use crate::error::Error;
use crate::exclusive::Exclusive;
use crate::files::Key;
use crate::kernel::{Kernel, KernelError};
use crate::lock::Lock;
use crate::locking;
use crate::origin::{Images, Origins};
use crate::packages::Packages;
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
use crate::tools;
use crate::unserved;

/// The hash of this crate's code, by build.rs: the same inputs may become something else when it changes.
const CODE: &str = env!("MVM_IMAGES_CODE");

/// What a lock moved, a line for each package: `forky/amd64/docker.io 28.5.2+dfsg4-5 -> 28.5.3+dfsg1-1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<String>);

/// Builds the appliance, or returns the stored one when nothing that goes into it has changed. Blocks, for minutes when
/// nothing is cached: an async caller gives it a thread of its own. Two builds at once wait for each other.
pub fn build(request: &Request<'_>) -> Result<Appliance, Error> {
    let _alone = Exclusive::wait(request.directories)?;
    let located = request.source.locate()?;
    locking::with_pins(request.pins, &request.source, request.directories, request.progress, |lock| {
        Plan::of(request, &located, lock)?.build()
    })
}

/// Resolves every package anew, writes the lock and returns what changed.
pub fn lock(source: &Source, directories: &Directories, progress: &dyn Progress) -> Result<Changes, Error> {
    let _alone = Exclusive::wait(directories)?;
    let (_, changes) = locking::relock(source, directories, progress)?;
    Ok(Changes(changes))
}

/// Where everything in an appliance would come from, told without making it: its parts are unpacked, and nothing is compiled,
/// compressed or stored.
pub fn trace(request: &Request<'_>) -> Result<Provenance, Error> {
    let _alone = Exclusive::wait(request.directories)?;
    let located = request.source.locate()?;
    locking::with_pins(request.pins, &request.source, request.directories, request.progress, |lock| {
        Plan::of(request, &located, lock)?.trace()
    })
}

/// What a build begins with.
struct Plan<'a> {
    request: &'a Request<'a>,
    definition: &'a Definition,
    places: &'a Places,
    packages: Packages<'a>,
    store: Store,
    architecture: Architecture,
    kernel: Kernel,
    scratch: Scratch,
    spool: Spool,
    /// The host's files that the definition names.
    sources: BTreeMap<String, Content>,
}

impl<'a> Plan<'a> {
    fn of(
        request: &'a Request<'a>,
        (definition, places): &'a (Definition, Places),
        lock: &'a Lock,
    ) -> Result<Self, Error> {
        unserved::check(definition)?;
        let packages = Packages { directories: request.directories, lock, progress: request.progress };
        let kernel = &definition.kernel.image;
        let kernel = component::name_of(kernel).ok_or_else(|| Error::ForeignKernel(kernel.clone()))?;
        let kernel = Kernel::load(kernel)?;
        let store = Store::open(&request.directories.images())?;
        let architecture = Architecture::host().map_err(KernelError::from)?;
        let cache = &request.directories.cache;
        let scratch =
            Scratch::below(cache).map_err(|source| io_error("create a directory in", cache, source))?;
        let spool =
            Spool::below(scratch.path()).map_err(|source| io_error("create a file in", cache, source))?;
        let sources = root::sources(definition, &spool)?;
        Ok(Self {
            request,
            definition,
            places,
            packages,
            store,
            architecture,
            kernel,
            scratch,
            spool,
            sources,
        })
    }

    fn origins(&self) -> Result<Origins<'_>, Error> {
        Origins::of(self.definition, (self.store.layout(), self.packages.lock), self.architecture)
    }

    fn build(&self) -> Result<Appliance, Error> {
        let Self { request, definition, packages, store, .. } = self;
        let origins = self.origins()?;
        let inputs = self.inputs(&origins)?;
        if let Some(made) = store.find_made_of(request.reference, &inputs)? {
            return Ok(made);
        }
        let vmlinux = self.kernel.make(packages)?;
        let images = origins.make(packages, &self.spool)?;
        let (tree, containers) = self.root(&images)?;
        let provenance = self.scratch.path().join("provenance.json");
        File::create(&provenance)
            .and_then(|file| Provenance::write(&tree, &containers, BufWriter::new(file)))
            .map_err(|source| io_error("write", &provenance, source))?;
        let mkfs = tools::ensure_from("mkfs-erofs", packages)?;
        let image = self.scratch.path().join("root.erofs");
        Stage::run(request.progress, "root image: compress", || {
            erofs::make(&mkfs, &tree, self.scratch.path(), &image)
        })?;
        drop(tree);
        let cmdline = self.verified(&image)?;
        let bill = sbom::Contents {
            reference: request.reference,
            inputs: &inputs,
            kernel: &self.kernel,
            vmlinux: &vmlinux,
            guest: request.guest,
            images: &images.unpacked,
            packages,
        };
        let bill = bill.document()?;
        let config = serde_json::to_vec_pretty(&sorted(definition)?)?;
        let parts = Parts {
            inputs: &inputs,
            config: &config,
            kernel: &vmlinux,
            root: &image,
            cmdline: &cmdline,
            provenance: &provenance,
            sbom: &bill,
        };
        Ok(store.put(request.reference, &parts)?)
    }

    /// The command line; where it mounts the image as the root, with the hashes that are put behind the image.
    fn verified(&self, image: &Path) -> Result<String, Error> {
        let cmdline = &self.definition.kernel.cmdline;
        if !self.request.verified {
            return Ok(cmdline.clone());
        }
        let verity = Stage::run(self.request.progress, "root image: hash", || Verity::append(image));
        let verity = verity.map_err(|source| io_error("hash", image, source))?;
        Ok(verity.onto(cmdline).unwrap_or_else(|| cmdline.clone()))
    }

    fn trace(&self) -> Result<Provenance, Error> {
        let images = self.origins()?.make(&self.packages, &self.spool)?;
        let (tree, containers) = self.root(&images)?;
        let mut document = Vec::new();
        Provenance::write(&tree, &containers, &mut document).map_err(ProvenanceError::from)?;
        Ok(Provenance::read(document.as_slice())?)
    }

    /// The root, and who says what of its containers.
    fn root(&self, images: &Images<'_>) -> Result<(Tree, Vec<provenance::Container>), Error> {
        let assembly = Assembly { definition: self.definition, places: self.places, images };
        let containers = assembly.containers()?;
        let tree = root::assemble(assembly, &containers, self.request.guest.binary, &self.sources)?;
        Ok((tree, assembly.describe(&containers)))
    }

    /// Everything that the result depends on. Where the definition's entries stand is told of the result.
    fn inputs(&self, origins: &Origins<'_>) -> Result<String, Error> {
        let key = Key::default()
            .with(CODE)
            .with(self.architecture.debian)
            .with(serde_json::to_vec(&sorted(self.definition)?)?)
            .with(serde_json::to_vec(self.places)?)
            .with(self.request.guest.binary)
            .with(self.request.guest.crates)
            .with([u8::from(self.request.verified)])
            .with(self.kernel.key(&self.packages)?)
            .with(tools::key("mkfs-erofs", &self.packages)?)
            .with(tools::key("binutils", &self.packages)?);
        let mut key = origins.key(key, &self.packages)?;
        for (path, content) in &self.sources {
            key = key.with(path).with(content.digest());
        }
        Ok(key.finish())
    }
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
