//! An image or an appliance as one file: an OCI layout in an archive, which `mvm image import` and other tools take.

use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::{ImageIndexBuilder, MediaType, OciLayoutBuilder};
use tar::{Builder, EntryType, Header};

use super::graph::{is_whole, reachable};
use crate::layout::{Layout, LayoutError};

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
    #[error("cannot describe the layout")]
    Describe(#[from] oci_spec::OciSpecError),
    #[error("cannot write the index")]
    Index(#[from] serde_json::Error),
}

/// Writes it; the same image is the same bytes.
pub fn export(layout: &Path, name: &str, to: impl Write) -> Result<(), ExportError> {
    let layout = Layout::open(layout)?;
    let descriptor = layout.find(name)?.ok_or_else(|| ExportError::Unknown(name.to_owned()))?;
    is_whole(&layout, &descriptor, 0)
        .map_err(|source| ExportError::Incomplete { name: name.to_owned(), source })?;
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests([descriptor.clone()])
        .build()?;
    // By way of a value, whose keys are sorted: an image may have several annotations, whose order is another each time.
    let index = serde_json::to_value(&index)?.to_string();
    let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
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
    for (path, text) in [("oci-layout", marker.to_string()?), ("index.json", index)] {
        add(path, text.len() as u64, &mut text.as_bytes())?;
    }
    for (digest, content) in reachable(&layout, &descriptor)? {
        let path = format!("blobs/{}", digest.replacen(':', "/", 1));
        add(&path, content.size(), &mut layout.read(&content)?)?;
    }
    Ok(archive.into_inner()?.flush()?)
}
