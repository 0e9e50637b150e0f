//! One build, from the request to the stored appliance.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::architecture::Architecture;
use crate::component;
use crate::error::Error;
use crate::exclusive::Exclusive;
use crate::files::Key;
use crate::kernel::{Kernel, KernelError};
use crate::lock::Lock;
use crate::locking;
use crate::origin::Origins;
use crate::packages::Packages;
use crate::progress::{Progress, Stage};
use crate::request::{Directories, Request};
use crate::root;
use crate::rootfs::verity::Verity;
use crate::rootfs::{Content, Spool, erofs};
use crate::scratch::Scratch;
use crate::source::Source;
use crate::spec::Definition;
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
    let definition = request.source.read()?;
    locking::with_pins(request.pins, &request.source, request.directories, request.progress, |lock| {
        build_with(request, &definition, lock)
    })
}

/// Resolves every package anew, writes the lock and returns what changed.
pub fn lock(source: &Source, directories: &Directories, progress: &dyn Progress) -> Result<Changes, Error> {
    let _alone = Exclusive::wait(directories)?;
    let (_, changes) = locking::relock(source, directories, progress)?;
    Ok(Changes(changes))
}

fn build_with(request: &Request<'_>, definition: &Definition, lock: &Lock) -> Result<Appliance, Error> {
    unserved::check(definition)?;
    let packages = Packages { directories: request.directories, lock, progress: request.progress };
    let kernel = &definition.kernel.image;
    let kernel = component::name_of(kernel).ok_or_else(|| Error::ForeignKernel(kernel.clone()))?;
    let kernel = Kernel::load(kernel)?;
    let store = Store::open(&request.directories.images())?;
    let architecture = Architecture::host().map_err(KernelError::from)?;
    let origins = Origins::of(definition, (store.layout(), lock), architecture)?;
    let cache = &request.directories.cache;
    let scratch = Scratch::below(cache).map_err(|source| io_error("create a directory in", cache, source))?;
    let spool = Spool::below(scratch.path()).map_err(|source| io_error("create a file in", cache, source))?;
    let sources = root::sources(definition, &spool)?;
    let inputs = inputs((request, definition), (&kernel, &origins), &sources, &packages)?;
    if let Some(made) = store.find_made_of(request.reference, &inputs)? {
        return Ok(made);
    }
    let vmlinux = kernel.make(&packages)?;
    let images = origins.make(&packages, &spool)?;
    let tree = root::assemble(request, definition, &images, &sources)?;
    let mkfs = tools::ensure_from("mkfs-erofs", &packages)?;
    let image = scratch.path().join("root.erofs");
    Stage::run(request.progress, "root image: compress", || {
        erofs::make(&mkfs, &tree, scratch.path(), &image)
    })?;
    drop(tree);
    let cmdline = verified(request, definition, &image)?;
    let config = serde_json::to_vec_pretty(&sorted(definition)?)?;
    let parts = Parts { inputs: &inputs, config: &config, kernel: &vmlinux, root: &image, cmdline: &cmdline };
    Ok(store.put(request.reference, &parts)?)
}

/// The command line; where it mounts the image as the root, with the hashes that are put behind the image.
fn verified(request: &Request<'_>, definition: &Definition, image: &Path) -> Result<String, Error> {
    let cmdline = &definition.kernel.cmdline;
    if !request.verified {
        return Ok(cmdline.clone());
    }
    let verity = Stage::run(request.progress, "root image: hash", || Verity::append(image));
    let verity = verity.map_err(|source| io_error("hash", image, source))?;
    Ok(verity.onto(cmdline).unwrap_or_else(|| cmdline.clone()))
}

/// Everything that the result depends on.
fn inputs(
    (request, definition): (&Request<'_>, &Definition),
    (kernel, origins): (&Kernel, &Origins<'_>),
    sources: &BTreeMap<String, Content>,
    packages: &Packages<'_>,
) -> Result<String, Error> {
    let architecture = Architecture::host().map_err(KernelError::from)?.debian;
    let key = Key::default()
        .with(CODE)
        .with(architecture)
        .with(serde_json::to_vec(&sorted(definition)?)?)
        .with(request.guest)
        .with([u8::from(request.verified)])
        .with(kernel.key(packages)?)
        .with(tools::key("mkfs-erofs", packages)?)
        .with(tools::key("binutils", packages)?);
    let mut key = origins.key(key, packages)?;
    for (path, content) in sources {
        key = key.with(path).with(content.digest());
    }
    Ok(key.finish())
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
