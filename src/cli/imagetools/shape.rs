//! What buildx's templates are over, in the types that its Go has (OCI image-spec 1.1, `descriptor.md`, `image-index.md`, `config.md`).

use crate::template::{Field, Shape};

/// A field with its name in Go, its key in JSON, and what it is.
const fn field(name: &'static str, key: &'static str, shape: &'static Shape) -> Field {
    Field { name, key, shape }
}

const TEXT: &Shape = &Shape::Text;
const NUMBER: &Shape = &Shape::Number;
const TEXTS: &Shape = &Shape::List(TEXT);
const TEXT_BY_TEXT: &Shape = &Shape::Map(TEXT);
const SET: &Shape = &Shape::Map(&Shape::Struct(&[]));

const PLATFORM: &Shape = &Shape::Struct(&[
    field("Architecture", "architecture", TEXT),
    field("OS", "os", TEXT),
    field("OSVersion", "os.version", TEXT),
    field("OSFeatures", "os.features", TEXTS),
    field("Variant", "variant", TEXT),
]);

const DESCRIPTOR: &Shape = &Shape::Struct(&[
    field("MediaType", "mediaType", TEXT),
    field("Digest", "digest", TEXT),
    field("Size", "size", NUMBER),
    field("URLs", "urls", TEXTS),
    field("Annotations", "annotations", TEXT_BY_TEXT),
    field("Data", "data", TEXT),
    field("Platform", "platform", &Shape::Pointer(PLATFORM)),
    field("ArtifactType", "artifactType", TEXT),
]);

const INDEX: &Shape = &Shape::Struct(&[
    field("SchemaVersion", "schemaVersion", NUMBER),
    field("MediaType", "mediaType", TEXT),
    field("Digest", "digest", TEXT),
    field("Size", "size", NUMBER),
    field("Manifests", "manifests", &Shape::List(DESCRIPTOR)),
    field("Annotations", "annotations", TEXT_BY_TEXT),
]);

const CONFIG: &Shape = &Shape::Struct(&[
    field("User", "User", TEXT),
    field("ExposedPorts", "ExposedPorts", SET),
    field("Env", "Env", TEXTS),
    field("Entrypoint", "Entrypoint", TEXTS),
    field("Cmd", "Cmd", TEXTS),
    field("Volumes", "Volumes", SET),
    field("WorkingDir", "WorkingDir", TEXT),
    field("Labels", "Labels", TEXT_BY_TEXT),
    field("StopSignal", "StopSignal", TEXT),
    field("ArgsEscaped", "ArgsEscaped", &Shape::Flag),
]);

const ROOTFS: &Shape = &Shape::Struct(&[field("Type", "type", TEXT), field("DiffIDs", "diff_ids", TEXTS)]);

const HISTORY: &Shape = &Shape::Struct(&[
    field("Created", "created", TEXT),
    field("CreatedBy", "created_by", TEXT),
    field("Author", "author", TEXT),
    field("Comment", "comment", TEXT),
    field("EmptyLayer", "empty_layer", &Shape::Flag),
]);

const IMAGE: &Shape = &Shape::Pointer(&Shape::Struct(&[
    field("Created", "created", TEXT),
    field("Author", "author", TEXT),
    field("Architecture", "architecture", TEXT),
    field("OS", "os", TEXT),
    field("OSVersion", "os.version", TEXT),
    field("OSFeatures", "os.features", TEXTS),
    field("Variant", "variant", TEXT),
    field("Config", "config", CONFIG),
    field("RootFS", "rootfs", ROOTFS),
    field("History", "history", &Shape::List(HISTORY)),
]));

const SBOM: &Shape = &Shape::Struct(&[
    field("SPDX", "SPDX", &Shape::Any),
    field("AdditionalSPDXs", "AdditionalSPDXs", &Shape::List(&Shape::Any)),
]);

const PROVENANCE: &Shape = &Shape::Struct(&[field("SLSA", "SLSA", &Shape::Any)]);

const fn parts(
    manifest: &'static Shape,
    image: &'static Shape,
    sbom: &'static Shape,
    provenance: &'static Shape,
) -> [Field; 5] {
    [
        field("Name", "name", TEXT),
        field("Manifest", "manifest", manifest),
        field("Image", "image", image),
        field("SBOM", "sbom", sbom),
        field("Provenance", "provenance", provenance),
    ]
}

static ALONE: Shape = Shape::Struct(&parts(DESCRIPTOR, IMAGE, SBOM, PROVENANCE));
static LISTED: Shape = Shape::Struct(&parts(INDEX, IMAGE, SBOM, PROVENANCE));
static SEVERAL: Shape =
    Shape::Struct(&parts(INDEX, &Shape::Map(IMAGE), &Shape::Map(SBOM), &Shape::Map(PROVENANCE)));

/// Of an image with so many platforms, which is an index or one manifest.
pub(super) fn of(is_list: bool, platforms: usize) -> &'static Shape {
    match (is_list, platforms) {
        (false, _) => &ALONE,
        (true, 0 | 1) => &LISTED,
        (true, _) => &SEVERAL,
    }
}
