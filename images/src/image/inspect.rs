//! What the layout knows of an image or an appliance.

use std::path::Path;

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::ExportError;
use crate::layout::Layout;
use crate::layout::graph::is_index;

/// Its manifest or index, the configuration, and what all of it takes on the disk, as JSON.
pub fn inspect(layout: &Path, name: &str) -> Result<Value, ExportError> {
    let layout = Layout::open(layout)?;
    let descriptor = layout.find(name)?.ok_or_else(|| ExportError::Unknown(name.to_owned()))?;
    let document: Value = layout.document(&descriptor)?;
    let config =
        document.get("config").and_then(|part| serde_json::from_value::<Descriptor>(part.clone()).ok());
    let config: Option<Value> = config.map(|part| layout.document(&part)).transpose()?;
    let size: u64 = layout.reachable(&descriptor)?.values().map(Descriptor::size).sum();
    let mut shown = json!({
        "name": name,
        "digest": descriptor.digest(),
        "kind": if descriptor.artifact_type().is_some() { "appliance" } else { "image" },
        "size": size,
        "config": config,
    });
    let what = if is_index(&descriptor) { "index" } else { "manifest" };
    if let Some(fields) = shown.as_object_mut() {
        fields.insert(what.to_owned(), document);
    }
    Ok(shown)
}
