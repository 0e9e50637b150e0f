//! An image or an appliance as one file: an OCI layout in an archive, which `mvm image import` and other tools take.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageManifest, MediaType};
use tar::{Builder, EntryType, Header};

use crate::layout::{self, Layout, LayoutError};
use crate::signature;

/// Why something cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("there is no {0}; `mvm image ls` shows what there is")]
    Unknown(String),
    #[error("a part of {name} is missing")]
    Incomplete { name: String, source: LayoutError },
    #[error("cannot write the archive")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot write the index")]
    Index(#[from] serde_json::Error),
}

/// With its name, and nothing else that this layout knows of it.
fn named(descriptor: &Descriptor, name: &str) -> Descriptor {
    let mut named = descriptor.clone();
    named.set_annotations(Some([(ANNOTATION_REF_NAME.to_owned(), name.to_owned())].into()));
    named
}

/// Writes it; the same image is the same bytes.
pub fn export(layout: &Path, name: &str, to: impl Write) -> Result<(), ExportError> {
    let layout = Layout::open(layout)?;
    let descriptor = layout.find(name)?.ok_or_else(|| ExportError::Unknown(name.to_owned()))?;
    layout
        .is_whole(&descriptor)
        .map_err(|source| ExportError::Incomplete { name: name.to_owned(), source })?;
    // With what signs it.
    let signatures = signature::name_of(descriptor.digest());
    let mut all = vec![named(&descriptor, name)];
    all.extend(layout.find(&signatures)?.map(|found| named(&found, &signatures)));
    let mut archive = Builder::new(to);
    let mut add = |path: &str, size: u64, from: &mut dyn io::Read| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        archive.append_data(&mut header, path, from)
    };
    let legacy = legacy_manifest(&layout, &descriptor, name)?.map(|text| ("manifest.json", text));
    for (path, text) in layout::documents(all.clone())?.into_iter().chain(legacy) {
        add(path, text.len() as u64, &mut text.as_bytes())?;
    }
    let mut contents = BTreeMap::new();
    for each in &all {
        contents.extend(layout.reachable(each)?);
    }
    for content in contents.into_values() {
        add(&path_of(&content), content.size(), &mut layout.read(&content)?)?;
    }
    Ok(archive.into_inner()?.flush()?)
}

/// What `docker load` reads where Docker does not keep its images in containerd. None for what is no image of one platform.
fn legacy_manifest(
    layout: &Layout,
    descriptor: &Descriptor,
    name: &str,
) -> Result<Option<String>, ExportError> {
    if *descriptor.media_type() != MediaType::ImageManifest || descriptor.artifact_type().is_some() {
        return Ok(None);
    }
    let manifest: ImageManifest = layout.document(descriptor)?;
    let layers: Vec<_> = manifest.layers().iter().map(path_of).collect();
    let entry =
        serde_json::json!({"Config": path_of(manifest.config()), "RepoTags": [name], "Layers": layers});
    Ok(Some(serde_json::json!([entry]).to_string()))
}

/// Where a content lies in a layout.
fn path_of(content: &Descriptor) -> String {
    format!("blobs/{}", content.digest().as_ref().replacen(':', "/", 1))
}
