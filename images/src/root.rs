//! The root of the appliance, put together from its parts in the definition's order.

#[cfg(test)]
mod contract;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::origin::Images;
use crate::provenance::{self, Item, Material, Origin};
use crate::rootfs::bundle::{self, Container};
use crate::rootfs::{Content, Entry, Spool, Tree, links};
use crate::spec::{Definition, FileSpec, Image, ImageConfig, Metadata, Names, Places, VOLUMES};

/// A definition, where its entries stand, and the images that it names.
#[derive(Clone, Copy)]
pub(crate) struct Assembly<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) places: &'a Places,
    pub(crate) images: &'a Images<'a>,
}

/// What init writes when it knows who answers.
const RESOLVER: &str = "/run/resolvconf/resolv.conf";

/// The whole tree; `modules` is what comes with the kernel.
pub(crate) fn assemble(
    modules: &Tree,
    assembly: Assembly<'_>,
    containers: &[Container<'_>],
    guest: &[u8],
    sources: &BTreeMap<String, Content>,
) -> Result<Tree, Error> {
    let mut root = Tree::default();
    let Assembly { definition, images, .. } = assembly;
    for (index, image) in definition.init.iter().enumerate() {
        if let Some(made) = images.unpacked.get(image.as_str()) {
            root.graft("", &made.tree, assembly.item("init", index, None).as_ref());
        }
    }
    root.unpack(modules);
    link_resolver(&mut root, "");
    root.put("init", Entry::file(0o755, guest).of(&Arc::new(Origin::own(Material::Guest))));
    put_volumes(&mut root, assembly);
    bundle::put_all(&mut root, containers, &images.unpacked)?;
    let names = Names::of(definition);
    for (index, file) in definition.files.iter().enumerate() {
        let metadata = file.metadata.map(|language| match language {
            Metadata::Yaml => definition.to_yaml().map_err(Error::Metadata),
            Metadata::Json => Ok(serde_json::to_string(definition)?),
        });
        let item = assembly.item("files", index, None);
        let origin = Arc::new(Origin { item, image: None, material: Material::File });
        put_file(&mut root, file, metadata.transpose()?, (sources, &names), &origin)?;
    }
    Ok(root)
}

impl<'a> Assembly<'a> {
    fn item(self, section: &str, index: usize, name: Option<&str>) -> Option<Item> {
        let at = self.places.entry(section, index)?.at.clone();
        Some(Item { section: section.to_owned(), index, name: name.map(str::to_owned), at })
    }

    /// All containers, as they are to be.
    pub(crate) fn containers(self) -> Result<Vec<Container<'a>>, Error> {
        let (names, nothing) = (Names::of(self.definition), ImageConfig::default());
        let container = |section: &str, index, image: &'a Image| {
            let own = self.images.unpacked.get(image.image.as_str()).map(|made| made.config.merged());
            let config = names.resolve(image.merged_with(own.as_ref().unwrap_or(&nothing)));
            let config = config.map_err(|source| Error::Name { container: image.name.clone(), source })?;
            let directory = match section {
                "services" => image.name.clone(),
                _ => format!("{index:03}-{}", image.name),
            };
            let item = self.item(section, index, Some(&image.name));
            let place = format!("containers/{section}/{directory}");
            Ok(Container { place, name: &image.name, image: &image.image, config, item })
        };
        let Definition { onboot, onshutdown, services, .. } = self.definition;
        let sections = [("onboot", onboot), ("onshutdown", onshutdown), ("services", services)];
        let all = sections.into_iter().flat_map(|(section, images)| {
            images.iter().enumerate().map(move |(index, image)| (section, index, image))
        });
        all.map(|(section, index, image)| container(section, index, image)).collect()
    }

    /// Who says what of each of them.
    pub(crate) fn describe(self, containers: &[Container<'_>]) -> Vec<provenance::Container> {
        let of = |(image, container): (&Image, &Container<'_>)| {
            let made = self.images.unpacked.get(image.image.as_str())?;
            let item = container.item.as_ref();
            let written = item.and_then(|item| self.places.entry(&item.section, item.index));
            Some(provenance::Container {
                name: image.name.clone(),
                directory: container.place.clone(),
                root: bundle::home(containers, &image.image),
                item: container.item.clone(),
                image: made.id.clone(),
                fields: provenance::fields(image, &made.config, &made.id, written),
            })
        };
        self.definition.containers().zip(containers).filter_map(of).collect()
    }
}

/// The host's files that the definition names, by their paths in the root.
pub(crate) fn sources(definition: &Definition, spool: &Spool) -> Result<BTreeMap<String, Content>, Error> {
    let mut found = BTreeMap::new();
    for file in &definition.files {
        let Some(source) = &file.source else { continue };
        match open(&resolve(source)).and_then(|opened| spool.add(opened)) {
            Ok(content) => _ = found.insert(file.path.clone(), content),
            Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path: file.path.clone(), source }),
        }
    }
    Ok(found)
}

/// What each volume holds from the start, and the places where init puts it together.
fn put_volumes(root: &mut Tree, assembly: Assembly<'_>) {
    for (index, volume) in assembly.definition.volumes.iter().enumerate() {
        let item = assembly.item("volumes", index, Some(&volume.name));
        let directory = Arc::new(Origin { item: item.clone(), image: None, material: Material::Directory });
        let place = format!("{VOLUMES}/{}", volume.name);
        let lower = format!("{place}/lower");
        root.ensure_directory(&lower, &directory);
        let unpacked = || assembly.images.unpacked.get(volume.image.as_deref()?);
        if let Some(made) = assembly.images.whole.get(volume.name.as_str()).or_else(unpacked) {
            root.graft(&lower, &made.tree, item.as_ref());
            link_resolver(root, &format!("{lower}/"));
        }
        root.ensure_directory(&format!("{place}/merged"), &directory);
        if !volume.readonly {
            root.ensure_directory(&format!("{place}/tmp"), &directory);
        }
    }
}

/// Where an image has a resolver of its own, the machine's takes its place: in the root, and in volumes.
fn link_resolver(root: &mut Tree, below: &str) {
    let path = format!("{below}etc/resolv.conf");
    if root.get(&path).is_some() {
        root.put(&path, Entry::symlink(RESOLVER).of(&Arc::new(Origin::own(Material::Resolver))));
    }
}

fn put_file(
    root: &mut Tree,
    file: &FileSpec,
    metadata: Option<String>,
    (sources, names): (&BTreeMap<String, Content>, &Names),
    origin: &Arc<Origin>,
) -> Result<(), Error> {
    let mode = file.mode_bits().unwrap_or(0o600);
    let entry = if file.directory {
        Entry::directory(mode)
    } else if let Some(target) = &file.symlink {
        Entry::symlink(target)
    } else if let Some(contents) = &file.contents {
        Entry::file(mode, contents.as_bytes())
    } else if let Some(text) = metadata {
        Entry::file(mode, text.into_bytes())
    } else if let Some(content) = sources.get(&file.path) {
        Entry::file(mode, content.clone())
    } else {
        return Ok(());
    };
    // Where a program of the root would find it: below a link such as /bin, nothing can lie.
    let place = links::below_root(Path::new(&file.path)).and_then(|path| root.place(&path));
    let place = place.ok_or_else(|| Error::File {
        path: file.path.clone(),
        source: io::Error::other("something on its way is no directory"),
    })?;
    // Names were looked up when the definition was read.
    let number = |id| names.number(id).unwrap_or_default();
    root.put(&place, Entry { uid: number(&file.uid), gid: number(&file.gid), ..entry.of(origin) });
    Ok(())
}

/// A file of the host. What is none may have no end.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other(format!("{} is no regular file", path.display())));
    }
    File::open(path)
}

/// `~/` is the home directory.
fn resolve(source: &Path) -> PathBuf {
    match (source.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::ImageId;
    use crate::rootfs::bundle::Made;
    use crate::spec::{Document, OwnConfig};

    pub(super) fn assembled(text: &str, images: &Images<'_>) -> (Tree, Definition) {
        let document = Document { file: "a.yml", text, directory: Path::new(""), is_local: false };
        let (definition, places) = Definition::locate(&[document]).unwrap();
        let assembly = Assembly { definition: &definition, places: &places, images };
        let containers = assembly.containers().unwrap();
        let root = assemble(&Tree::default(), assembly, &containers, b"guest", &BTreeMap::new()).unwrap();
        (root, definition)
    }

    fn made_of(tree: Tree) -> Made {
        let id = ImageId { name: "x".to_owned(), digest: None };
        Made { tree, config: OwnConfig::default(), id, listed: Vec::new() }
    }

    #[test]
    fn the_machines_resolver_is_that_of_its_root_and_of_volumes() {
        let mut tree = Tree::default();
        tree.put("etc/resolv.conf", Entry::file(0o644, *b"# none"));
        let images = Images {
            unpacked: BTreeMap::from([("x", made_of(tree))]),
            whole: BTreeMap::from([("whole", made_of(Tree::default()))]),
        };
        let text = "{kernel: {image: k}, init: [x], volumes: [{name: v, image: x}, {name: whole, image: x, format: oci}], \
                    services: [{name: s, image: x, command: [/x]}]}";
        let root = assembled(text, &images).0;
        let link = Entry::symlink(RESOLVER);
        assert_eq!(root.get("etc/resolv.conf"), Some(&link));
        assert_eq!(root.get("containers/volumes/v/lower/etc/resolv.conf"), Some(&link));
        assert!(root.file("containers/services/s/lower/etc/resolv.conf").is_some());
        assert_eq!(root.get("containers/volumes/whole/lower/etc/resolv.conf"), None);
    }

    #[test]
    fn a_file_lies_where_the_links_of_the_root_lead() {
        let mut merged = Tree::default();
        merged.put("bin", Entry::symlink("usr/bin"));
        merged.put("usr/bin/sh", Entry::file(0o755, *b"sh"));
        let images = Images { unpacked: [("i", made_of(merged))].into(), ..Images::default() };
        let text = |path: &str| {
            format!(
                "{{kernel: {{image: k}}, init: [i], files: [{{path: {path}, contents: x, mode: '0644'}}]}}"
            )
        };
        let (root, _) = assembled(&text("/bin/x"), &images);
        assert_eq!(root.get("usr/bin/x"), Some(&Entry::file(0o644, *b"x")));
        assert_eq!(root.get("bin"), Some(&Entry::symlink("usr/bin")));
    }

    #[test]
    fn everything_lies_where_the_definition_has_it() {
        let text = "{kernel: {image: k}, \
                    onboot: [{name: a, image: x, command: [/x]}], onshutdown: [{name: b, image: x, command: [/x]}], \
                    files: [{path: /bin/x, contents: x, mode: '0755', uid: 7, gid: b}, {path: y, metadata: yaml}]}";
        let (root, definition) = assembled(text, &Images::default());
        // The second container has the second number.
        let expected = Entry { uid: 7, gid: 101, ..Entry::file(0o755, *b"x") };
        assert_eq!(root.get("bin/x"), Some(&expected));
        let yaml = definition.to_yaml().unwrap();
        assert_eq!(root.get("y"), Some(&Entry::file(0o600, yaml.as_bytes())));
        for place in ["containers/onboot/000-a", "containers/onshutdown/000-b"] {
            assert!(root.file(&format!("{place}/config.json")).is_some(), "{place}");
        }
    }
}
