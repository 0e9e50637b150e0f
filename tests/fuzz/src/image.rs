//! Layouts of images: indexes, manifests and configurations of anybody.
//!
//! Input: documents between lines of `---`, the first of which is `index.json`. `@N` in one stands for the digest of the Nth
//! behind it, `#N` for its size, so that what is changed in one is looked at.

use std::fs::{self, File};
use std::path::Path;

use images::fuzzing::{find, import};
use images::image::{export, inspect};
use sha2::{Digest, Sha256};

use crate::scratch::scratch;

const BETWEEN: &str = "\n---\n";
/// As many as one digit counts.
const MOST: usize = 10;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let directory = tempfile::tempdir_in(scratch()).unwrap();
    let place = |name: &str| directory.path().join(name);
    lay_out(text, &place("from"));
    let (here, there) = (place("here"), place("there"));
    let Ok(imported) = import(&here, &place("from")) else { return };
    for image in imported {
        let _ = find(&here, &image.name);
        let _ = inspect(&here, &image.name);
        // What was taken over is whole: it can be given away, and comes back the same.
        let archive = place("archive");
        export(&here, &image.name, File::create(&archive).unwrap())
            .unwrap_or_else(|error| panic!("{error:?}"));
        let again = import(&there, &archive).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(again.first().map(|again| &again.digest), Some(&image.digest));
    }
}

/// As another tool would make it.
fn lay_out(text: &str, layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut known: Vec<(String, usize)> = Vec::new();
    let documents: Vec<_> = text.split(BETWEEN).take(MOST).collect();
    for (number, document) in documents.iter().enumerate().rev() {
        let mut document = (*document).to_owned();
        // The last of them was the first to be made.
        for (distance, (digest, size)) in (1..).zip(known.iter().rev()) {
            document = document.replace(&format!("@{distance}"), digest);
            document = document.replace(&format!("#{distance}"), &size.to_string());
        }
        let hash = hex::encode(Sha256::digest(&document));
        let path = if number == 0 { layout.join("index.json") } else { blobs.join(&hash) };
        fs::write(path, &document).unwrap();
        known.push((format!("sha256:{hash}"), document.len()));
    }
}
