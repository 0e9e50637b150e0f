//! An image or an appliance as one file: an OCI layout in an archive, which `mvm image import` and other tools take.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor};
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
    for (path, text) in layout::documents(all.clone())? {
        add(path, text.len() as u64, &mut text.as_bytes())?;
    }
    let mut contents = BTreeMap::new();
    for each in &all {
        contents.extend(layout.reachable(each)?);
    }
    for (digest, content) in contents {
        let path = format!("blobs/{}", digest.replacen(':', "/", 1));
        add(&path, content.size(), &mut layout.read(&content)?)?;
    }
    Ok(archive.into_inner()?.flush()?)
}
