//! The root of the appliance, put together from its parts in the definition's order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::deb::root_path;
use crate::error::Error;
use crate::origin::Made;
use crate::request::Request;
use crate::rootfs::bundle::{self, Container};
use crate::rootfs::{Content, Entry, Spool, Tree};
use crate::spec::{Definition, FileSpec, Ids, Image, ImageConfig};

/// The whole tree.
pub(crate) fn assemble(
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
    root.put("init", Entry::file(0o755, request.guest));
    let ids = Ids::of(definition);
    put_containers(&mut root, definition, images, &ids)?;
    for file in &definition.files {
        put_file(&mut root, file, sources, &ids);
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

fn put_containers<'a>(
    root: &mut Tree,
    definition: &'a Definition,
    images: &BTreeMap<&str, Made>,
    ids: &Ids,
) -> Result<(), Error> {
    let onboot = definition.onboot.iter().enumerate();
    let onboot = onboot.map(|(index, image)| (format!("containers/onboot/{index:03}-{}", image.name), image));
    let services =
        definition.services.iter().map(|image| (format!("containers/services/{}", image.name), image));
    let nothing = ImageConfig::default();
    let container = |(place, image): (String, &'a Image)| {
        let own = images.get(image.image.as_str()).map_or(&nothing, |made| &made.config);
        Container { place, name: &image.name, image: &image.image, config: image.merged_with(own) }
    };
    let containers: Vec<_> = onboot.chain(services).map(container).collect();
    bundle::put_all(root, &containers, images, ids)?;
    Ok(())
}

fn put_file(root: &mut Tree, file: &FileSpec, sources: &BTreeMap<String, Content>, ids: &Ids) {
    let mode = file.mode_bits().unwrap_or(0o600);
    let entry = if file.directory {
        Entry::directory(mode)
    } else if let Some(target) = &file.symlink {
        Entry::symlink(target)
    } else if let Some(contents) = &file.contents {
        Entry::file(mode, contents.as_bytes())
    } else if let Some(content) = sources.get(&file.path) {
        Entry::file(mode, content.clone())
    } else {
        return;
    };
    // The place that was checked: below a link of the merged root, such as /bin, nothing can lie.
    if let Some(path) = root_path(Path::new(&file.path)) {
        // Names were looked up when the definition was read.
        let number = |id| ids.number(id).unwrap_or_default();
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
    use crate::request::{Directories, Pins, Source};

    #[test]
    fn a_file_lies_where_a_merged_root_has_it() {
        let text = "{kernel: {image: k}, files: [{path: /bin/x, contents: x, mode: '0755', uid: 7, gid: 8}]}";
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
        let root = assemble(&request, &definition, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert_eq!(root.get("bin"), None);
        let expected = Entry { uid: 7, gid: 8, ..Entry::file(0o755, *b"x") };
        assert_eq!(root.get("usr/bin/x"), Some(&expected));
    }
}
