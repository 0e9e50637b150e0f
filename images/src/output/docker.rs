//! The root as an image of a container, in an archive as `docker save` writes it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use oci_spec::image::{
    Arch, ConfigBuilder, ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder,
};

use super::{OutputError, Place, failed};
use crate::build::Build;
use crate::error::Error;
use crate::image::{self, ExportError};
use crate::layout::{CONTAINERD_NAME, Layout, LayoutError};
use crate::progress::Stage;
use crate::rootfs::Tree;
use crate::rootfs::tarball::{self, Records};

/// Without the kernel: a container has its host's.
pub(super) fn write(build: &Build<'_>, place: &Place) -> Result<(), Error> {
    let root = build.tree(&Tree::default())?;
    let archive = build.scratch.path().join("layer.tar");
    let file = File::create(&archive).map_err(failed("the layer"))?;
    Stage::run(build.request.progress, "layer: write", || {
        tarball::write(&root, Records::None, BufWriter::new(file))
    })
    .map_err(failed("the layer"))?;
    let name = name(build.request.reference);
    let directory = build.scratch.path().join("layout");
    let layout = Layout::open(&directory).map_err(OutputError::from)?;
    put(&layout, &name, &archive, build.architecture.debian).map_err(OutputError::from)?;
    Ok(export(&directory, &name, place)?)
}

fn put(layout: &Layout, name: &str, archive: &Path, architecture: &str) -> Result<(), LayoutError> {
    let layer = layout.add_file(MediaType::ImageLayer.as_ref(), archive)?;
    let config = ImageConfigurationBuilder::default()
        .architecture(Arch::from(architecture))
        .os(Os::Linux)
        .created("2024-01-01T00:00:00Z")
        .config(ConfigBuilder::default().entrypoint(["/init".to_owned()]).build()?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids([layer.digest().to_string()]).build()?)
        .build()?;
    let config = layout.add_bytes(MediaType::ImageConfig.as_ref(), config.to_string()?.as_bytes())?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers([layer])
        .build()?;
    let mut descriptor =
        layout.add_bytes(MediaType::ImageManifest.as_ref(), manifest.to_string()?.as_bytes())?;
    descriptor.set_annotations(Some([(CONTAINERD_NAME.to_owned(), full(name))].into()));
    layout.tag(name, descriptor)?;
    Ok(())
}

fn export(directory: &Path, name: &str, place: &Place) -> Result<(), OutputError> {
    let mut exported: Result<(), ExportError> = Ok(());
    let streamed = place.stream(|to| {
        exported = image::export(directory, name, to);
        Ok(())
    });
    exported?;
    streamed.map_err(failed("the archive"))
}

/// The appliance's name as one that Docker takes: in small letters, and with a tag.
fn name(reference: &str) -> String {
    let name = reference.to_lowercase();
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains(':') { name } else { format!("{name}:latest") }
}

/// A name with the registry that it would be pulled from.
fn full(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_docker_makes_of_them() {
        let names = ["My", "test/my:1", "host:5000/my", "localhost/my"].map(|given| full(&name(given)));
        let expected = [
            "docker.io/library/my:latest",
            "docker.io/test/my:1",
            "host:5000/my:latest",
            "localhost/my:latest",
        ];
        assert_eq!(names, expected);
    }
}
