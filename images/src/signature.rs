//! Signatures of appliances, in minisign's format: over the manifest, which names every part by its digest.
//!
//! They lie beside the manifest as an artifact of their own, under the name `sha256-DIGEST.minisig` in the layout and in a
//! registry's repository, so that any registry keeps them, and `minisign -V` understands what is in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minisign::{KeyPair, PError, PublicKey, SecretKey, SecretKeyBox, SignatureBox};
use oci_spec::image::{Descriptor, Digest, ImageManifest, ImageManifestBuilder, MediaType};

use crate::exclusive::{Exclusive, ExclusiveError};
use crate::layout::{Layout, LayoutError};
use crate::request::Directories;
use crate::store;

/// What the manifest of signatures says it is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.mvm.signature.v1";
/// One signature: minisign's four lines.
const SIGNATURE_TYPE: &str = "application/vnd.mvm.signature.v1+minisig";
/// The configuration of a manifest that has none (image-spec 1.1, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Four lines are shorter.
const LONGEST: u64 = 4096;
/// So is every manifest: a registry takes 4 MiB.
const LONGEST_SIGNED: u64 = 4 << 20;
const PUBLIC: &str = "pub";

/// Why something is not signed, or its signature not good.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("there is no appliance {0} here to sign; `mvm image ls` shows what there is")]
    Unknown(String),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is no key of minisign's that can be used")]
    Key { path: PathBuf, source: PError },
    #[error("cannot make a key")]
    Generate(#[source] PError),
    #[error("cannot sign")]
    Sign(#[source] PError),
    #[error(
        "it is signed by none of the keys {keys}, and no other appliance that comes from elsewhere is booted"
    )]
    Unsigned { keys: String },
    #[error("it is signed with {key}, and the signature is not good: it is of something else")]
    Bad { key: String, source: PError },
    #[error("cannot describe the signature")]
    Describe(#[from] oci_spec::OciSpecError),
    #[error("cannot write the signature's manifest")]
    Write(#[from] serde_json::Error),
}

/// The keys that somebody trusts, each with the name of its file.
#[derive(Debug, Default)]
pub struct Keys(Vec<(String, PublicKey)>);

impl Keys {
    /// All `*.pub` of a directory; none where there is no such directory.
    pub fn of(dir: &Path) -> Result<Self, SignatureError> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(io_error("list", dir, source)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| io_error("list", dir, source))?.path();
            if path.extension().is_some_and(|extension| extension == PUBLIC) {
                keys.push(Self::one(&path)?);
            }
        }
        keys.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self(keys))
    }

    /// The key of one file.
    pub fn from_file(path: &Path) -> Result<Self, SignatureError> {
        Ok(Self(vec![Self::one(path)?]))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn one(path: &Path) -> Result<(String, PublicKey), SignatureError> {
        let text = fs::read_to_string(path).map_err(|source| io_error("read", path, source))?;
        let key =
            minisign::PublicKeyBox::from_string(&text).and_then(minisign::PublicKeyBox::into_public_key);
        let key = key.map_err(|source| SignatureError::Key { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok((name, key))
    }
}

/// What the signatures of a manifest are called.
#[must_use]
pub fn name_of(manifest: &Digest) -> String {
    format!("sha256-{}.minisig", manifest.digest())
}

pub(crate) fn is_of_signatures(descriptor: &Descriptor) -> bool {
    descriptor.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == ARTIFACT_TYPE)
}

/// Makes a key without a password, for its owner's eyes only, and beside it `FILE.pub`, for everybody's.
pub fn make_key(path: &Path) -> Result<PathBuf, SignatureError> {
    let pair = KeyPair::generate_unencrypted_keypair().map_err(SignatureError::Generate)?;
    let secret = pair.sk.to_box(None).map_err(SignatureError::Generate)?.into_string();
    let public = pair.pk.to_box().map_err(SignatureError::Generate)?.into_string();
    let public_path = path.with_added_extension(PUBLIC);
    let create = |path: &Path, mode| {
        let file = File::options().write(true).create_new(true).mode(mode).open(path);
        file.map_err(|source| io_error("create", path, source))
    };
    // The public one first: one that is there already belongs to another secret.
    let mut public_file = create(&public_path, 0o644)?;
    let mut secret_file = create(path, 0o600).inspect_err(|_| drop(fs::remove_file(&public_path)))?;
    for (path, file, text) in [(path, &mut secret_file, secret), (&public_path, &mut public_file, public)] {
        file.write_all(text.as_bytes()).map_err(|source| io_error("write", path, source))?;
    }
    Ok(public_path)
}

/// Signs an appliance; asks the terminal for the key's password if it has one.
pub fn sign(directories: &Directories, name: &str, key: &Path) -> Result<(), SignatureError> {
    let key = secret_key(key)?;
    let _alone = Exclusive::wait(directories)?;
    let layout = Layout::open(&directories.images())?;
    let appliance = layout.find(name)?.filter(store::is_appliance);
    let appliance = appliance.ok_or_else(|| SignatureError::Unknown(name.to_owned()))?;
    let comment = format!("appliance {}", appliance.digest());
    let manifest = bytes(&layout, &appliance)?;
    let signed = minisign::sign(None, &key, manifest.as_slice(), Some(&comment), None);
    let signed = signed.map_err(SignatureError::Sign)?;
    let layer = layout.add_bytes(SIGNATURE_TYPE, signed.to_string().as_bytes())?;
    let named = layout.find(&name_of(appliance.digest()))?;
    let mut all = named.map(|named| of_manifest(&layout, &named)).transpose()?.unwrap_or_default();
    // One of this key is enough.
    all.retain(|(_, other)| other.keynum() != signed.keynum());
    all.push((layer, signed));
    write(&layout, &appliance, &manifest, all)
}

/// Adds signatures that came with an appliance to those that are here. None takes the place of another: of two of one key either
/// may be the good one.
pub(crate) fn take_over(
    layout: &Layout,
    appliance: &Descriptor,
    come: &Descriptor,
) -> Result<(), SignatureError> {
    let mut all = of_manifest(layout, come)?;
    if let Some(named) = layout.find(&name_of(appliance.digest()))? {
        all.extend(of_manifest(layout, &named)?);
    }
    write(layout, appliance, &bytes(layout, appliance)?, all)
}

/// Writes the manifest of an appliance's signatures, each once.
fn write(
    layout: &Layout,
    appliance: &Descriptor,
    manifest: &[u8],
    all: Vec<(Descriptor, SignatureBox)>,
) -> Result<(), SignatureError> {
    let by_digest: BTreeMap<_, _> =
        all.into_iter().map(|(layer, _)| (layer.digest().to_string(), layer)).collect();
    let layers: Vec<_> = by_digest.into_values().collect();
    let subject = layout.add_bytes(appliance.media_type().as_ref(), manifest)?;
    let signatures = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::from(ARTIFACT_TYPE))
        .config(layout.add_bytes(EMPTY_TYPE, b"{}")?)
        .layers(layers)
        .subject(subject)
        .build()?;
    let signatures = serde_json::to_vec(&signatures)?;
    let signatures = layout.add_bytes(MediaType::ImageManifest.as_ref(), &signatures)?;
    layout.tag(&name_of(appliance.digest()), signatures)?;
    Ok(())
}

/// The name of the key that has signed a manifest, if one of these has.
pub fn check(layout: &Layout, manifest: &Descriptor, keys: &Keys) -> Result<String, SignatureError> {
    let signed = bytes(layout, manifest)?;
    let signatures = signatures(layout, manifest.digest())?;
    let mut bad = None;
    for (name, key) in &keys.0 {
        let of_key = signatures.iter().filter(|(_, signature)| signature.keynum() == key.keynum());
        for (_, signature) in of_key {
            match minisign::verify(key, signature, Cursor::new(&signed), true, false, false) {
                Ok(()) => return Ok(name.clone()),
                Err(source) => bad = Some(SignatureError::Bad { key: name.clone(), source }),
            }
        }
    }
    let keys: Vec<_> = keys.0.iter().map(|(name, _)| name.as_str()).collect();
    Err(bad.unwrap_or_else(|| SignatureError::Unsigned { keys: keys.join(", ") }))
}

fn secret_key(path: &Path) -> Result<SecretKey, SignatureError> {
    let text = fs::read_to_string(path).map_err(|source| io_error("read", path, source))?;
    let failed = |source| SignatureError::Key { path: path.to_owned(), source };
    let of_text = || SecretKeyBox::from_string(&text).map_err(failed);
    // It does not say by itself whether it has a password.
    match of_text()?.into_unencrypted_secret_key() {
        Ok(key) => Ok(key),
        Err(_) => of_text()?.into_secret_key(None).map_err(failed),
    }
}

/// What the layout has of them. One that is nothing of minisign's is nobody's.
fn signatures(layout: &Layout, manifest: &Digest) -> Result<Vec<(Descriptor, SignatureBox)>, LayoutError> {
    match layout.find(&name_of(manifest))? {
        Some(named) => of_manifest(layout, &named),
        None => Ok(Vec::new()),
    }
}

fn of_manifest(layout: &Layout, named: &Descriptor) -> Result<Vec<(Descriptor, SignatureBox)>, LayoutError> {
    let signatures: ImageManifest = layout.document(named)?;
    let mut all = Vec::new();
    for layer in signatures.layers().iter().filter(|layer| layer.size() <= LONGEST && layout.has(layer)) {
        let text = String::from_utf8(bytes(layout, layer)?).unwrap_or_default();
        if let Ok(signature) = SignatureBox::from_string(&text) {
            all.push((layer.clone(), signature));
        }
    }
    Ok(all)
}

fn bytes(layout: &Layout, content: &Descriptor) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let read = layout.read(content)?.take(LONGEST_SIGNED).read_to_end(&mut bytes);
    read.map_err(|source| LayoutError::Damaged { path: layout.blob(content.digest()), source })?;
    Ok(bytes)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> SignatureError {
    SignatureError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layout with an appliance that has no parts, and a directory for keys.
    struct Signed {
        dir: tempfile::TempDir,
        directories: Directories,
        layout: Layout,
        appliance: Descriptor,
    }

    fn appliance(layout: &Layout, name: &str) -> Descriptor {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "artifactType": store::ARTIFACT_TYPE, "layers": [],
            "config": layout.add_bytes(EMPTY_TYPE, b"{}").unwrap(), "annotations": {"a": name},
        });
        let manifest = manifest.to_string();
        let media_type = MediaType::ImageManifest.to_string();
        layout.tag(name, layout.add_bytes(&media_type, manifest.as_bytes()).unwrap()).unwrap()
    }

    impl Signed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let directories = Directories { data: dir.path().join("d"), cache: dir.path().join("c") };
            let layout = Layout::open(&directories.images()).unwrap();
            let appliance = appliance(&layout, "a");
            Self { dir, directories, layout, appliance }
        }

        fn key(&self, name: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            make_key(&path).unwrap();
            path
        }

        fn sign(&self, key: &Path) {
            sign(&self.directories, "a", key).unwrap();
        }

        fn check(&self, keys: &Keys) -> Result<String, SignatureError> {
            check(&self.layout, &self.appliance, keys)
        }
    }

    #[test]
    fn what_is_signed_by_a_trusted_key_is_good() {
        let signed = Signed::new();
        let (one, two) = (signed.key("one"), signed.key("two"));
        let trusted = Keys::of(signed.dir.path()).unwrap();
        let none = signed.check(&trusted).unwrap_err().to_string();
        assert!(none.starts_with("it is signed by none of the keys one.pub, two.pub, and "), "{none}");
        signed.sign(&one);
        assert_eq!(signed.check(&trusted).unwrap(), "one.pub");
        let other = Keys::from_file(&two.with_extension(PUBLIC)).unwrap();
        assert!(signed.check(&other).unwrap_err().to_string().contains("none of the keys two.pub, "));
        signed.sign(&two);
        signed.sign(&two);
        assert_eq!(signed.check(&other).unwrap(), "two.pub");
        assert_eq!(signed.check(&trusted).unwrap(), "one.pub");
        assert_eq!(signatures(&signed.layout, signed.appliance.digest()).unwrap().len(), 2);
    }

    #[test]
    fn a_signature_of_something_else_is_bad() {
        let signed = Signed::new();
        let key = signed.key("key");
        signed.sign(&key);
        let other = appliance(&signed.layout, "b");
        let signatures = signed.layout.find(&name_of(signed.appliance.digest())).unwrap().unwrap();
        signed.layout.tag(&name_of(other.digest()), signatures).unwrap();
        let trusted = Keys::from_file(&key.with_extension(PUBLIC)).unwrap();
        let error = check(&signed.layout, &other, &trusted).unwrap_err().to_string();
        assert_eq!(
            error,
            "it is signed with key.pub, and the signature is not good: it is of something else"
        );
    }

    #[test]
    fn a_bad_signature_that_comes_takes_no_good_ones_place() {
        let signed = Signed::new();
        let key = signed.key("key");
        let trusted = Keys::from_file(&key.with_extension(PUBLIC)).unwrap();
        let name = |appliance: &Descriptor| name_of(appliance.digest());
        // What the same key signed elsewhere, said to be of this appliance.
        let other = appliance(&signed.layout, "b");
        sign(&signed.directories, "b", &key).unwrap();
        let bad = signed.layout.find(&name(&other)).unwrap().unwrap();
        signed.sign(&key);
        take_over(&signed.layout, &signed.appliance, &bad).unwrap();
        assert_eq!(signed.check(&trusted).unwrap(), "key.pub");
        let good = signed.layout.find(&name(&signed.appliance)).unwrap().unwrap();
        signed.layout.tag(&name(&signed.appliance), bad).unwrap();
        assert!(signed.check(&trusted).is_err());
        take_over(&signed.layout, &signed.appliance, &good).unwrap();
        assert_eq!(signed.check(&trusted).unwrap(), "key.pub");
    }

    #[test]
    fn what_is_no_key_and_no_signature_is_told() {
        let signed = Signed::new();
        let path = signed.dir.path().join("bad.pub");
        fs::write(&path, "untrusted comment: x\nnothing\n").unwrap();
        let error = Keys::of(signed.dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{} is no key of minisign's that can be used", path.display()));
        let error = sign(&signed.directories, "b", &signed.key("key")).unwrap_err().to_string();
        assert!(error.starts_with("there is no appliance b here to sign"), "{error}");
        assert!(make_key(&signed.dir.path().join("key")).is_err(), "a key is not written over");
        assert!(Keys::of(Path::new("/nonexistent")).unwrap().is_empty());
    }

    #[test]
    fn a_secret_key_is_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let signed = Signed::new();
        let mode = fs::metadata(signed.key("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
