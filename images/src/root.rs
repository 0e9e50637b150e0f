//! The root of the appliance, put together from its parts in the definition's order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::deb::root_path;
use crate::error::Error;
use crate::request::Request;
use crate::rootfs::bundle::{self, Container, Made};
use crate::rootfs::{Content, Entry, Spool, Tree};
use crate::spec::{Definition, FileSpec, Image, ImageConfig, Metadata, Names, VOLUMES};

/// The whole tree; `modules` is what comes with the kernel.
pub(crate) fn assemble(
    modules: &Tree,
    request: &Request<'_>,
    definition: &Definition,
    images: &BTreeMap<&str, Made>,
    sources: &BTreeMap<String, Content>,
) -> Result<Tree, Error> {
    let mut root = Tree::default();
    for image in &definition.init {
        if let Some(made) = images.get(image.as_str()) {
            root.graft("", &made.tree);
        }
    }
    root.unpack(modules);
    root.put("init", Entry::file(0o755, request.guest));
    let names = Names::of(definition);
    put_volumes(&mut root, definition, images);
    put_containers(&mut root, definition, images, &names)?;
    for file in &definition.files {
        let metadata = file.metadata.map(|language| match language {
            Metadata::Yaml => definition.to_yaml().map_err(Error::Metadata),
            Metadata::Json => Ok(serde_json::to_string(definition)?),
        });
        put_file(&mut root, file, metadata.transpose()?, (sources, &names));
    }
    Ok(root)
}

/// The host's files that the definition names, by their paths in the root.
pub(crate) fn sources(definition: &Definition, spool: &Spool) -> Result<BTreeMap<String, Content>, Error> {
    let mut found = BTreeMap::new();
    for file in &definition.files {
        let Some(source) = &file.source else { continue };
        match File::open(resolve(source)).and_then(|opened| spool.add(opened)) {
            Ok(content) => _ = found.insert(file.path.clone(), content),
            Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path: file.path.clone(), source }),
        }
    }
    Ok(found)
}

/// What each volume holds from the start, and the places where init puts it together.
fn put_volumes(root: &mut Tree, definition: &Definition, images: &BTreeMap<&str, Made>) {
    for volume in &definition.volumes {
        let place = format!("{VOLUMES}/{}", volume.name);
        let lower = format!("{place}/lower");
        root.ensure_directory(&lower);
        if let Some(made) = volume.image.as_deref().and_then(|image| images.get(image)) {
            root.graft(&lower, &made.tree);
        }
        root.ensure_directory(&format!("{place}/merged"));
        if !volume.readonly {
            root.ensure_directory(&format!("{place}/tmp"));
        }
    }
}

fn put_containers<'a>(
    root: &mut Tree,
    definition: &'a Definition,
    images: &BTreeMap<&str, Made>,
    names: &Names,
) -> Result<(), Error> {
    let steps = [("onboot", &definition.onboot), ("onshutdown", &definition.onshutdown)];
    let steps = steps.into_iter().flat_map(|(section, images)| {
        let place = move |(index, image): (usize, &'a Image)| {
            (format!("containers/{section}/{index:03}-{}", image.name), image)
        };
        images.iter().enumerate().map(place)
    });
    let services =
        definition.services.iter().map(|image| (format!("containers/services/{}", image.name), image));
    let nothing = ImageConfig::default();
    let container = |(place, image): (String, &'a Image)| {
        let own = images.get(image.image.as_str()).map_or(&nothing, |made| &made.config);
        let config = names.resolve(image.merged_with(own));
        let config = config.map_err(|source| Error::Name { container: image.name.clone(), source })?;
        Ok(Container { place, name: &image.name, image: &image.image, config })
    };
    let containers = steps.chain(services).map(container).collect::<Result<Vec<_>, Error>>()?;
    bundle::put_all(root, &containers, images)?;
    Ok(())
}

fn put_file(
    root: &mut Tree,
    file: &FileSpec,
    metadata: Option<String>,
    (sources, names): (&BTreeMap<String, Content>, &Names),
) {
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
        return;
    };
    // The place that was checked: below a link of the merged root, such as /bin, nothing can lie.
    if let Some(path) = root_path(Path::new(&file.path)) {
        // Names were looked up when the definition was read.
        let number = |id| names.number(id).unwrap_or_default();
        root.put(&path, Entry { uid: number(&file.uid), gid: number(&file.gid), ..entry });
    }
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
    use crate::progress::Silent;
    use crate::request::{Directories, Pins};
    use crate::source::Source;

    #[test]
    fn everything_lies_where_the_definition_has_it() {
        let text = "{kernel: {image: k}, \
                    onboot: [{name: a, image: x, command: [/x]}], onshutdown: [{name: b, image: x, command: [/x]}], \
                    files: [{path: /bin/x, contents: x, mode: '0755', uid: 7, gid: b}, {path: y, metadata: yaml}]}";
        let definition = Definition::parse("a.yml", text).unwrap();
        let directories = Directories { data: "/nonexistent".into(), cache: "/nonexistent".into() };
        let request = Request {
            source: Source::Embedded,
            guest: b"guest",
            directories: &directories,
            pins: Pins::Exact,
            reference: "a",
            progress: &Silent,
        };
        let root =
            assemble(&Tree::default(), &request, &definition, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert_eq!(root.get("bin"), None);
        // A merged root has a link at /bin. The second container has the second number.
        let expected = Entry { uid: 7, gid: 101, ..Entry::file(0o755, *b"x") };
        assert_eq!(root.get("usr/bin/x"), Some(&expected));
        let yaml = definition.to_yaml().unwrap();
        assert_eq!(root.get("y"), Some(&Entry::file(0o600, yaml.as_bytes())));
        for place in ["containers/onboot/000-a", "containers/onshutdown/000-b"] {
            assert!(root.file(&format!("{place}/config.json")).is_some(), "{place}");
        }
    }
}
