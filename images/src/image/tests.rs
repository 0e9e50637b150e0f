//! Images from layouts, whole and not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::import::import_into;
use super::*;
use crate::request::Directories;
use crate::rootfs::{Content, Node};
use crate::store::Store;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layout as another tool makes it.
struct Foreign(TempDir);

impl Foreign {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn blob(&self, digest: &Value) -> std::path::PathBuf {
        self.path().join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
    }

    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        fs::write(self.blob(&descriptor["digest"]), bytes).unwrap();
        descriptor
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        self.put(media_type, document.to_string().as_bytes())
    }

    /// An image of one file, with a configuration.
    fn image(&self, contents: &str, config: &Value) -> Value {
        let layer = self.put(LAYER, &layer(contents));
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = self.document("application/vnd.oci.image.config.v1+json", &config);
        self.document(
            MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}),
        )
    }

    fn index(&self, manifests: &[(&Value, Option<&str>)]) {
        let manifests: Vec<_> = manifests.iter().map(|(descriptor, name)| named(descriptor, *name)).collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// As one file.
    fn archive(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(&file);
        builder.append_dir_all(".", self.path()).unwrap();
        builder.finish().unwrap();
        drop(builder);
        file
    }
}

fn layer(contents: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", contents.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn named(descriptor: &Value, name: Option<&str>) -> Value {
    let mut descriptor = descriptor.clone();
    if let Some(name) = name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    descriptor
}

fn on(descriptor: &Value, architecture: &str) -> Value {
    let mut descriptor = descriptor.clone();
    descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
    descriptor
}

fn find(layout: &Layout, name: &str) -> Result<Option<Image>, ImageError> {
    layout.find(name)?.map(|descriptor| Image::of(layout, name, descriptor, host())).transpose()
}

fn host() -> Architecture {
    Architecture::host().unwrap()
}

/// The whole chain of causes.
fn told(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", told(source)));
    format!("{error}{}", source.unwrap_or_default())
}

fn contents(layout: &Path, name: &str) -> Result<Content, ImageError> {
    let layout = Layout::open(layout)?;
    let spool = Spool::below(layout.dir()).unwrap();
    let tree = find(&layout, name)?.unwrap().unpack(&layout, &spool)?;
    Ok(tree.file("file").unwrap().clone())
}

#[test]
fn an_image_is_taken_over_from_a_directory_and_from_an_archive() {
    let foreign = Foreign::new();
    let (one, other) = (foreign.image("one", &json!({})), foreign.image("other", &json!({})));
    foreign.index(&[(&one, Some("a/one:1")), (&other, Some("other"))]);
    let archive = foreign.archive();
    for from in [foreign.path(), archive.path()] {
        let home = tempfile::tempdir().unwrap();
        let imported = import_into(home.path(), from, None).unwrap();
        let names: Vec<_> = imported.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["a/one:1", "other"]);
        assert_eq!(imported[0].digest, one["digest"]);
        assert_eq!(contents(home.path(), "a/one:1").unwrap(), Content::from(*b"one"));
        assert_eq!(contents(home.path(), "other").unwrap(), Content::from(*b"other"));
    }
    foreign.index(&[(&one, Some("a/one:1"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), Some("mine")).unwrap();
    assert_eq!(contents(home.path(), "mine").unwrap(), Content::from(*b"one"));
    assert!(find(&Layout::open(home.path()).unwrap(), "a/one:1").unwrap().is_none());
}

#[test]
fn what_is_exported_is_taken_over_elsewhere_and_always_the_same() {
    let foreign = Foreign::new();
    let image = foreign.image("one", &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [on(&image, host().debian)]});
    foreign.index(&[(&foreign.document(INDEX, &index), Some("a/one:1"))]);
    let exported = |home: &Path| {
        let mut bytes = Vec::new();
        export(home, "a/one:1", &mut bytes).unwrap();
        bytes
    };
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    import_into(here.path(), foreign.path(), None).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), exported(here.path())).unwrap();
    import_into(there.path(), file.path(), None).unwrap();
    assert_eq!(contents(there.path(), "a/one:1").unwrap(), Content::from(*b"one"));
    assert!(exported(there.path()) == exported(here.path()), "the same is other bytes");

    let shown = inspect(there.path(), "a/one:1").unwrap();
    assert_eq!(
        (&shown["kind"], &shown["index"]["manifests"][0]["digest"]),
        (&json!("image"), &image["digest"])
    );
    assert!(shown["size"].as_u64().unwrap() > 1024, "{shown}");
    let error = export(here.path(), "none", Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "there is no none; `mvm image ls` shows what there is");
    fs::remove_file(here.path().join("blobs/sha256").join(&image["digest"].as_str().unwrap()[7..])).unwrap();
    let error = told(&export(here.path(), "a/one:1", Vec::new()).unwrap_err());
    assert!(error.starts_with("a part of a/one:1 is missing: sha256:"), "{error}");
}

#[test]
fn what_is_not_whole_is_not_taken_over() {
    let refused = |foreign: &Foreign, name, message: &str| {
        for from in [foreign.path().to_owned(), foreign.archive().path().to_owned()] {
            let home = tempfile::tempdir().unwrap();
            // An archive is gone with the value that it is of.
            let archive = foreign.archive();
            let from = if from.is_dir() { from } else { archive.path().to_owned() };
            let error = told(&import_into(home.path(), &from, name).unwrap_err());
            assert!(error.contains(message), "{error}");
            assert!(Layout::open(home.path()).unwrap().index().unwrap().manifests().is_empty(), "{error}");
        }
    };
    let foreign = Foreign::new();
    refused(&foreign, None, "holds no OCI image layout: it has no index.json");
    fs::write(foreign.path().join("index.json"), "{").unwrap();
    refused(&foreign, None, "cannot be read");
    let image = foreign.image("one", &json!({}));
    foreign.index(&[(&image, None)]);
    refused(&foreign, None, "holds 1 images without a name; give one with --name");
    foreign.index(&[(&image, Some("a")), (&image, Some("b"))]);
    refused(&foreign, Some("c"), "holds 2 images without a name");

    // Names of mvm's own are what a machine boots.
    foreign.index(&[(&image, Some(crate::DEFAULT_REFERENCE))]);
    refused(&foreign, None, "names that begin with mvm/ are those of mvm's own images");
    foreign.index(&[(&image, Some("a"))]);
    refused(&foreign, Some("mvm/moby"), "and mvm/moby is one; give another with --name");

    // Of an index, at least one part has to be there; the others may be.
    let other = foreign.image("other", &json!({}));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [on(&other, "s390x"), on(&image, host().debian)]});
    foreign.index(&[(&foreign.document(INDEX, &index), Some("part"))]);
    fs::remove_file(foreign.blob(&other["digest"])).unwrap();
    for from in [foreign.path(), foreign.archive().path()] {
        let home = tempfile::tempdir().unwrap();
        import_into(home.path(), from, None).unwrap();
        assert_eq!(contents(home.path(), "part").unwrap(), Content::from(*b"one"));
    }
    let lone = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [on(&other, "s390x")]});
    foreign.index(&[(&foreign.document(INDEX, &lone), Some("none"))]);
    refused(&foreign, None, "lacks a part of none: sha256:");
    foreign.index(&[(&image, Some("a"))]);

    // Somebody else's bytes under a digest, and none.
    let layer = foreign.blob(&foreign.put(LAYER, &self::layer("one"))["digest"]);
    let mut bytes = fs::read(&layer).unwrap();
    bytes[512] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    refused(&foreign, None, "its digest is sha256:");
    fs::write(&layer, &bytes[..600]).unwrap();
    refused(&foreign, None, "its digest is sha256:");
    fs::remove_file(&layer).unwrap();
    refused(&foreign, None, &layer.file_name().unwrap().to_string_lossy());
    let nowhere = foreign.path().join("nowhere");
    let error = told(&import_into(&foreign.path().join("home"), &nowhere, None).unwrap_err());
    assert_eq!(error, format!("cannot read {}: No such file or directory (os error 2)", nowhere.display()));
}

#[test]
fn the_part_for_this_processor_is_found_through_indexes() {
    let foreign = Foreign::new();
    let other = if host().debian == "amd64" { "s390x" } else { "amd64" };
    let (right, wrong) = (foreign.image("right", &json!({})), foreign.image("wrong", &json!({})));
    let attestation = json!({"os": "unknown", "architecture": "unknown"});
    let mut attested = wrong.clone();
    attested["platform"] = attestation;
    let list = |manifests: &[Value]| {
        foreign.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
    };
    let both = list(&[attested, on(&wrong, other), on(&right, host().debian)]);
    let nested = list(std::slice::from_ref(&both));
    let foreign_only = list(&[on(&wrong, other)]);
    foreign.index(&[(&nested, Some("both")), (&foreign_only, Some("other"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), None).unwrap();
    assert_eq!(contents(home.path(), "both").unwrap(), Content::from(*b"right"));
    let error = contents(home.path(), "other").unwrap_err().to_string();
    assert_eq!(error, format!("it has no part for linux/{}; it has linux/{other}", host().debian));
}

#[test]
fn what_the_builder_of_an_image_lists_is_found_beside_it() {
    let foreign = Foreign::new();
    let (image, other) = (foreign.image("one", &json!({})), foreign.image("other", &json!({})));
    // As BuildKit has it.
    let attestation = |of: &Value, package: &str| {
        let statement = json!({"predicate": {"packages": [{"name": package}]}});
        let mut layer = foreign.document("application/vnd.in-toto+json", &statement);
        layer["annotations"] = json!({"in-toto.io/predicate-type": "https://spdx.dev/Document"});
        let provenance = foreign.document("application/vnd.in-toto+json", &json!({"predicate": {}}));
        let config = foreign.document("application/vnd.oci.image.config.v1+json", &json!({}));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer, provenance]});
        let mut manifest = on(&foreign.document(MANIFEST, &manifest), "unknown");
        manifest["platform"]["os"] = "unknown".into();
        manifest["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of["digest"],
        });
        manifest
    };
    let manifests =
        [on(&image, host().debian), attestation(&other, "elsewhere"), attestation(&image, "serde")];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    foreign.index(&[(&foreign.document(INDEX, &index), Some("listed")), (&image, Some("alone"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), None).unwrap();
    let layout = Layout::open(home.path()).unwrap();
    let found = find(&layout, "listed").unwrap().unwrap();
    let names = format!("{:?}", found.listed(&layout).unwrap());
    assert!(names.contains("serde") && !names.contains("elsewhere"), "{names}");
    let alone = find(&layout, "alone").unwrap().unwrap();
    assert_eq!(alone.listed(&layout).unwrap(), []);
    // What was changed on the disk is an error, and not an empty list.
    let list = layout.blob(found.lists[0].digest());
    let changed = fs::read_to_string(&list).unwrap().replace("serde", "sarde");
    fs::write(&list, changed).unwrap();
    assert!(told(&found.listed(&layout).unwrap_err()).contains("its digest is sha256:"));
}

#[test]
fn what_an_image_says_of_its_container_is_its_configuration_and_its_label() {
    let foreign = Foreign::new();
    let config = |label: &str| {
        json!({
            "Entrypoint": ["/bin/x"], "Cmd": ["-a"], "Env": ["A=1"], "WorkingDir": "/w", "User": "nobody",
            "Labels": {"org.mobyproject.config": label},
        })
    };
    let right = foreign.image("right", &config(r#"{"capabilities": ["CAP_KILL"], "env": ["B=2"]}"#));
    let wrong = foreign.image("wrong", &config("capabilites: [all]"));
    let plain = foreign.image("plain", &json!({"WorkingDir": ""}));
    foreign.index(&[(&right, Some("right")), (&wrong, Some("wrong")), (&plain, Some("plain"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), None).unwrap();
    let layout = Layout::open(home.path()).unwrap();
    let found = |name| find(&layout, name).map(Option::unwrap);
    let strings = |strings: &[&str]| Some(strings.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    let shown = inspect(home.path(), "right").unwrap();
    assert_eq!(shown["config"]["config"]["WorkingDir"], "/w");
    assert_eq!(shown["manifest"]["layers"].as_array().unwrap().len(), 1);
    let config = found("right").unwrap().config.merged();
    assert_eq!(config.command, strings(&["/bin/x", "-a"]));
    assert_eq!((config.env, config.capabilities), (strings(&["B=2"]), strings(&["CAP_KILL"])));
    assert_eq!((config.cwd.as_deref(), config.uid), (Some("/w"), None));
    assert_eq!(found("plain").unwrap().config, OwnConfig::default());
    let error = told(&found("wrong").unwrap_err());
    assert!(error.starts_with("the label org.mobyproject.config of wrong cannot be used: "), "{error}");
    assert!(
        error.contains("unknown field `capabilites` at org.mobyproject.config of wrong:1:1; did you mean"),
        "{error}"
    );
}

#[test]
fn a_layer_is_held_against_its_digest_whatever_else_is_wrong_with_it() {
    let foreign = Foreign::new();
    let image = foreign.image("one", &json!({}));
    foreign.index(&[(&image, Some("a"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), None).unwrap();
    let blobs = home.path().join("blobs/sha256");
    let layer = blobs.join(hex::encode(Sha256::digest(layer("one"))));
    // The archive itself, its end, and what follows it.
    let whole = fs::read(&layer).unwrap();
    for at in [0, 512, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&layer, bytes).unwrap();
        let error = told(&contents(home.path(), "a").unwrap_err());
        assert!(
            error.starts_with("layer 1 of 1 (sha256:") && error.contains("its digest is sha256:"),
            "{at}: {error}"
        );
    }
    fs::write(&layer, [&whole[..], b"more"].concat()).unwrap();
    assert!(told(&contents(home.path(), "a").unwrap_err()).contains("its digest is sha256:"));
}

/// An appliance, as any tool may have put it into a layout: the index does not say that it is one.
fn appliance(foreign: &Foreign, architecture: &str) -> Value {
    use crate::store::{ARCHITECTURE, ARTIFACT_TYPE, CMDLINE_TYPE, CONFIG_TYPE, KERNEL_TYPE, ROOT_TYPE};
    let parts = [(KERNEL_TYPE, "kernel"), (ROOT_TYPE, "root"), (CMDLINE_TYPE, "quiet")];
    let layers = parts.map(|(kind, contents)| foreign.put(kind, contents.as_bytes()));
    foreign.document(
        MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT_TYPE,
            "config": foreign.put(CONFIG_TYPE, b"{}"), "layers": layers,
            "annotations": {ARCHITECTURE: architecture},
        }),
    )
}

#[test]
fn the_appliance_of_a_place_is_one_and_for_this_processor() {
    let (foreign, home) = (Foreign::new(), tempfile::tempdir().unwrap());
    let directories = Directories { data: home.path().join("d"), cache: home.path().join("c") };
    let name = foreign.path().display().to_string();
    let taken = || import_appliance(&directories, foreign.path());
    let found = || Store::open(&directories.images()).unwrap().find(&name);
    let image = foreign.image("x", &json!({}));
    foreign.index(&[(&image, Some("a/b:1"))]);
    let error = taken().unwrap_err().to_string();
    assert!(error.starts_with(&format!("{name} holds 0 appliances, and one is to be booted; ")), "{error}");

    let (own, other) = (appliance(&foreign, host().debian), appliance(&foreign, "s390x"));
    foreign.index(&[(&own, None), (&other, Some("x"))]);
    assert!(taken().unwrap_err().to_string().contains(" holds 2 appliances, "));
    foreign.index(&[(&own, None), (&image, Some("a/b:1"))]);
    assert_eq!(taken().unwrap().name, name);
    let appliance = found().unwrap().unwrap();
    assert_eq!((appliance.cmdline.as_str(), fs::read(appliance.root).unwrap()), ("quiet", b"root".into()));

    foreign.index(&[(&other, None)]);
    taken().unwrap();
    let error = found().unwrap_err().to_string();
    assert_eq!(error, format!("the appliance {name} is for s390x, and this machine is {}", host().debian));
}

#[test]
fn a_command_line_that_is_too_long_is_not_read() {
    use crate::store::CMDLINE_TYPE;
    let (foreign, home) = (Foreign::new(), tempfile::tempdir().unwrap());
    let directories = Directories { data: home.path().join("d"), cache: home.path().join("c") };
    let one = appliance(&foreign, host().debian);
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(foreign.blob(&one["digest"])).unwrap()).unwrap();
    manifest["layers"][2] = foreign.put(CMDLINE_TYPE, &[b'x'; 2049]);
    foreign.index(&[(&foreign.document(MANIFEST, &manifest), None)]);
    let taken = import_appliance(&directories, foreign.path()).unwrap();
    let error = Store::open(&directories.images()).unwrap().find(&taken.name).unwrap_err();
    let expected =
        format!("the command line of the appliance {} cannot be read: it has 2049 bytes, ", taken.name);
    assert!(told(&error).starts_with(&expected), "{}", told(&error));
}

#[test]
fn a_volume_holds_an_image_as_a_layout_with_the_platforms_that_were_asked_for() {
    let foreign = Foreign::new();
    let (one, other) = (foreign.image("one", &json!({})), foreign.image("other", &json!({})));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [on(&one, "amd64"), on(&other, "arm64")]});
    foreign.index(&[(&foreign.document(INDEX, &index), Some("both")), (&one, Some("one"))]);
    let home = tempfile::tempdir().unwrap();
    import_into(home.path(), foreign.path(), None).unwrap();
    let layout = Layout::open(home.path()).unwrap();
    let spool = Spool::below(home.path()).unwrap();
    // What is in a volume is taken over by whoever reads layouts, as we do.
    let taken = |name: &str, platforms: &[&str]| {
        let platforms: Vec<_> = platforms.iter().map(|&platform| platform.to_owned()).collect();
        let tree =
            Whole::of(&layout, name, layout.find(name)?.unwrap(), &platforms)?.unpack(&layout, &spool)?;
        let (volume, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (path, entry) in tree.entries() {
            let path = volume.path().join(path);
            match &entry.node {
                Node::File(content) => {
                    io::copy(&mut content.reader(), &mut fs::File::create(path).unwrap()).unwrap();
                }
                _ => fs::create_dir(path).unwrap(),
            }
        }
        let imported = import_into(elsewhere.path(), volume.path(), None).unwrap();
        assert_eq!(imported[0].name, name);
        let has = |image: &Value| {
            elsewhere.path().join("blobs/sha256").join(&image["digest"].as_str().unwrap()[7..]).exists()
        };
        Ok::<_, ImageError>((has(&one), has(&other)))
    };
    assert_eq!(taken("both", &[]).unwrap(), (true, true));
    assert_eq!(taken("both", &["linux/arm64"]).unwrap(), (false, true));
    assert_eq!(taken("both", &["linux/arm64", "linux/amd64"]).unwrap(), (true, true));
    assert_eq!(taken("one", &["linux/arm64"]).unwrap(), (true, false), "an image of one platform is that");
    let error = taken("both", &["linux/arm/v7"]).unwrap_err().to_string();
    assert_eq!(error, "it has no part for linux/arm/v7; it has linux/amd64, linux/arm64");
    fs::remove_file(layout.blob(&other["digest"].as_str().unwrap().parse().unwrap())).unwrap();
    let error = taken("both", &["linux/arm64"]).unwrap_err().to_string();
    assert_eq!(error, "its part for linux/arm64 is not here; `mvm image pull --all-platforms` brings it");
    assert_eq!(taken("both", &[]).unwrap(), (true, false));
}
