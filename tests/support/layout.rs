//! OCI image layouts of one small image each, as other tools make them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::images::busybox;

/// The image's configuration is `config`; in it is Debian's busybox and an empty directory `room`.
pub fn layout(name: &str, config: &Value) -> TempDir {
    layout_with(name, config, &[])
}

/// The same with some files more.
pub fn layout_with(name: &str, config: &Value, files: &[(&str, &[u8])]) -> TempDir {
    let scratch = tempfile::tempdir().expect("a directory for a layer");
    layout_of(name, config, &[layer(scratch.path(), files)])
}

/// One of these layers, the lowest first.
pub fn layout_of(name: &str, config: &Value, layers: &[Vec<u8>]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory for a layout");
    let top = directory.path();
    fs::create_dir_all(top.join("blobs/sha256")).expect("the layout's directories are made");
    let layers = layers.iter().map(|layer| put(top, "application/vnd.oci.image.layer.v1.tar", layer));
    let layers: Vec<_> = layers.collect();
    let digests: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let config = put(top, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut manifest = put(top, kind, manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(top.join("index.json"), index.to_string()).expect("the index is written");
    fs::write(top.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("the marker is written");
    directory
}

/// A content of a layout.
pub fn put(top: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = hex::encode(Sha256::digest(bytes));
    fs::write(top.join("blobs/sha256").join(&digest), bytes).expect("a blob is written");
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

fn layer(scratch: &Path, files: &[(&str, &[u8])]) -> Vec<u8> {
    let program = scratch.join("busybox");
    busybox("amd64", &program);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_path_with_name(&program, "bin/busybox").expect("busybox is packed");
    builder.append_dir("room", scratch).expect("a directory is packed");
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, *bytes).expect("a file is packed");
    }
    fs::remove_file(&program).expect("busybox is removed");
    builder.into_inner().expect("the layer is finished")
}
