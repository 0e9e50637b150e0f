//! Whether everything that a name leads to is what its digest says.

use std::io;
use std::path::Path;

use oci_spec::image::Descriptor;

use crate::layout::{Layout, LayoutError};
use crate::store::{CMDLINE_TYPE, CONFIG_TYPE, KERNEL_TYPE, ROOT_TYPE};

/// Why something is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("there is no {0}; `mvm image ls` shows what there is")]
    Unknown(String),
    #[error("{name} is damaged: {}; delete what is damaged, and build or pull it again", parts.join(", "))]
    Damaged { name: String, parts: Vec<String> },
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What was held against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The manifest's, or the index's.
    pub digest: String,
    pub count: usize,
    /// In bytes.
    pub size: u64,
}

/// Reads all of it.
pub fn contents(layout: &Path, name: &str) -> Result<Contents, VerifyError> {
    let layout = Layout::open(layout)?;
    let named = layout.find(name)?.ok_or_else(|| VerifyError::Unknown(name.to_owned()))?;
    let digest = named.digest().to_string();
    if let Some(damage) = damage(&layout, &named)? {
        return Err(VerifyError::Damaged { name: name.to_owned(), parts: vec![damage] });
    }
    layout.is_whole(&named)?;
    let (mut parts, mut size, mut count) = (Vec::new(), 0_u64, 0_usize);
    for content in layout.reachable(&named)?.values() {
        parts.extend(damage(&layout, content)?);
        size = size.saturating_add(content.size());
        count = count.saturating_add(1);
    }
    if parts.is_empty() {
        Ok(Contents { digest, count, size })
    } else {
        Err(VerifyError::Damaged { name: name.to_owned(), parts })
    }
}

/// What is wrong with a content.
fn damage(layout: &Layout, content: &Descriptor) -> Result<Option<String>, LayoutError> {
    let read = layout.read(content).map(|mut from| io::copy(&mut from, &mut io::sink()));
    let what = role(content.media_type().as_ref());
    let path = layout.blob(content.digest());
    match read? {
        Ok(size) if size == content.size() => Ok(None),
        Ok(size) => {
            let wanted = content.size();
            Ok(Some(format!("{what} has {size} bytes, and not {wanted} ({})", path.display())))
        }
        Err(error) => Ok(Some(format!("{what}: {error} ({})", path.display()))),
    }
}

fn role(media_type: &str) -> &str {
    match media_type {
        KERNEL_TYPE => "the kernel",
        ROOT_TYPE => "the root image",
        CMDLINE_TYPE => "the command line",
        CONFIG_TYPE => "the definition",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_part_that_is_not_what_it_was_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let root = layout.add_bytes(ROOT_TYPE, b"the root").unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": layout.add_bytes(CONFIG_TYPE, b"{}").unwrap(), "layers": [root],
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = layout.add_bytes(media_type, manifest.to_string().as_bytes()).unwrap();
        layout.tag("a", manifest.clone()).unwrap();
        let all = contents(dir.path(), "a").unwrap();
        assert_eq!((all.count, all.digest), (3, manifest.digest().to_string()));
        assert_eq!(all.size, 8 + 2 + manifest.size());

        fs::write(layout.blob(root.digest()), b"the rOot").unwrap();
        let error = contents(dir.path(), "a").unwrap_err().to_string();
        let path = layout.blob(root.digest());
        let expected = format!("and not {} ({}); delete what is damaged, ", root.digest(), path.display());
        assert!(error.starts_with("a is damaged: the root image: its digest is sha256:"), "{error}");
        assert!(error.contains(&expected), "{error}");
        fs::remove_file(layout.blob(root.digest())).unwrap();
        assert_eq!(
            contents(dir.path(), "a").unwrap_err().to_string(),
            format!("{} is missing", root.digest())
        );
        assert!(contents(dir.path(), "b").unwrap_err().to_string().starts_with("there is no b; "));
    }
}
