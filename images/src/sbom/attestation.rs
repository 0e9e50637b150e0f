//! What the builder of an image has listed: the SPDX document of an in-toto statement, which BuildKit puts beside an image
//! (`--attest type=sbom`).

use std::io::{self, BufReader, Read};

use serde::Deserialize;

use super::databases::MOST_PACKAGES;
use super::spdx::{Package, Purpose};

/// What a layer of an attestation says that it is, and what it is here.
pub(crate) const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
pub(crate) const SPDX: &str = "https://spdx.dev/Document";
const LONGEST: u64 = 64 << 20;

/// A package that is listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    name: String,
    #[serde(default)]
    version_info: String,
    #[serde(default)]
    external_refs: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_type: String,
    reference_locator: String,
}

#[derive(Deserialize)]
struct Statement {
    predicate: Document,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    packages: Vec<Listed>,
}

/// The packages of a statement. None of what is no such statement: whoever made the image could write anything there.
pub(crate) fn read(from: impl Read) -> io::Result<Vec<Listed>> {
    match serde_json::from_reader::<_, Statement>(BufReader::new(from.take(LONGEST))) {
        Ok(Statement { predicate: Document { mut packages } }) => {
            packages.retain(|package| !package.name.is_empty());
            packages.truncate(MOST_PACKAGES);
            Ok(packages)
        }
        Err(error) if error.is_io() => Err(error.into()),
        Err(_) => Ok(Vec::new()),
    }
}

impl Listed {
    pub(super) fn package(&self) -> Package {
        let Self { name, version_info, external_refs } = self;
        let purl = external_refs.iter().find(|reference| reference.reference_type == "purl");
        let purl = purl.map(|purl| purl.reference_locator.as_str());
        let key = [version_info, purl.unwrap_or_default()];
        let package = Package::new("listed", name, &key, Purpose::Other);
        let package = if version_info.is_empty() { package } else { package.version(version_info) };
        // What is no word cannot stand in a document of ours.
        match purl.filter(|purl| purl.starts_with("pkg:") && !purl.contains(char::is_whitespace)) {
            Some(purl) => package.purl(purl.to_owned()),
            None => package,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_packages_are_taken_over_and_anything_else_is_nothing() {
        let statement = r#"{"_type": "x", "predicateType": "y", "predicate": {"spdxVersion": "SPDX-2.3", "packages": [
            {"name": "serde", "SPDXID": "a", "versionInfo": "1", "externalRefs": [
                {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:x"},
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:cargo/serde@1"}]},
            {"name": "usr/bin", "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:a b"}]}, {"name": ""}]}}"#;
        let listed = read(statement.as_bytes()).unwrap();
        let shown: Vec<_> =
            listed.iter().map(|listed| serde_json::to_value(listed.package()).unwrap()).collect();
        assert_eq!(shown[0]["externalRefs"][0]["referenceLocator"], "pkg:cargo/serde@1");
        assert_eq!((&shown[0]["name"], &shown[0]["versionInfo"]), (&"serde".into(), &"1".into()));
        assert_eq!((shown[1].get("versionInfo"), shown[1].get("externalRefs"), shown.len()), (None, None, 2));
        for other in ["", "{}", "[]", r#"{"predicate": {"packages": [{}]}}"#] {
            assert_eq!(read(other.as_bytes()).unwrap(), [], "{other}");
        }
    }
}
