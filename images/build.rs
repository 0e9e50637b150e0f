//! The components and tools are embedded: a file added to them is a reason to compile again. The code that makes an
//! appliance of them is hashed, for the key of everything that an appliance depends on, and with it which crates it uses.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    for path in ["src", "components", "tools", "../linuxkit.yml", "../linuxkit.lock", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let mut hash = Sha256::new();
    for path in files(Path::new("src"))?.into_iter().chain(["../Cargo.lock".into()]) {
        let bytes = fs::read(&path)?;
        hash.update(format!("{} {}\n", path.display(), bytes.len()));
        hash.update(bytes);
    }
    println!("cargo::rustc-env=MVM_IMAGES_CODE={}", hex::encode(hash.finalize()));
    Ok(())
}

/// All files below a directory, in the order of their names.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
