//! A document of SPDX 2.3, as JSON (<https://spdx.github.io/spdx-spec/v2.3/>): packages, and how they belong together. What is
//! not known is `NOASSERTION`; the same parts always make the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::files::Key;

const NOTHING_SAID: &str = "NOASSERTION";
/// The time of everything in an appliance ([`crate::rootfs::tarball::TIME`]): when a bill was written says nothing.
const CREATED: &str = "2024-01-01T00:00:00Z";

/// What a relationship refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Id(String);

/// What one thing is to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Relation {
    Describes,
    Contains,
    GeneratedFrom,
    StaticLink,
    PatchApplied,
}

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Purpose {
    Application,
    Container,
    File,
    Install,
    Library,
    OperatingSystem,
    Other,
    Source,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Package {
    name: String,
    #[serde(rename = "SPDXID")]
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    primary_package_purpose: Purpose,
    supplier: String,
    originator: String,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    license_concluded: &'static str,
    license_declared: &'static str,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: Id,
    relationship_type: Relation,
    related_spdx_element: Id,
}

impl Package {
    /// One that nothing else is known of yet. Two that differ in what makes them what they are have different `key`s.
    pub(super) fn new(kind: &str, name: &str, key: &[&str], purpose: Purpose) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let hash = key.iter().fold(Key::default().with(kind).with(name), Key::with).short();
        let readable: String = name.chars().map(plain).take(64).collect();
        Self {
            name: name.to_owned(),
            id: Id(format!("SPDXRef-{kind}-{readable}-{hash:.12}")),
            version_info: None,
            primary_package_purpose: purpose,
            supplier: NOTHING_SAID.to_owned(),
            originator: NOTHING_SAID.to_owned(),
            download_location: NOTHING_SAID,
            files_analyzed: false,
            checksums: Vec::new(),
            license_concluded: NOTHING_SAID,
            license_declared: NOTHING_SAID,
            copyright_text: NOTHING_SAID,
            comment: None,
            external_refs: Vec::new(),
        }
    }

    pub(super) fn version(mut self, version: &str) -> Self {
        self.version_info = Some(version.to_owned());
        self
    }

    pub(super) fn supplier(mut self, organization: &str) -> Self {
        self.supplier = format!("Organization: {organization}");
        self
    }

    /// Who looks after it: `NAME <ADDRESS>`.
    pub(super) fn maintainer(mut self, maintainer: &str) -> Self {
        let (name, address) = maintainer.split_once('<').unwrap_or((maintainer, ""));
        let (name, address) = (name.trim(), address.trim_end_matches('>').trim());
        if !name.is_empty() {
            let address = if address.is_empty() { String::new() } else { format!(" ({address})") };
            self.originator = format!("Organization: {name}{address}");
        }
        self
    }

    /// In hexadecimal.
    pub(super) fn sha256(mut self, hash: &str) -> Self {
        self.checksums.push(Checksum { algorithm: "SHA256", checksum_value: hash.to_owned() });
        self
    }

    pub(super) fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    pub(super) fn purl(self, purl: String) -> Self {
        self.reference("PACKAGE-MANAGER", "purl", purl)
    }

    pub(super) fn cpe(self, cpe: String) -> Self {
        self.reference("SECURITY", "cpe23Type", cpe)
    }

    fn reference(mut self, category: &'static str, kind: &'static str, locator: String) -> Self {
        self.external_refs.push(Reference {
            reference_category: category,
            reference_type: kind,
            reference_locator: locator,
        });
        self
    }
}

/// All packages, each once, and what they are to one another.
#[derive(Debug, Default)]
pub(super) struct Bill {
    packages: BTreeMap<Id, Package>,
    relationships: BTreeSet<Relationship>,
}

impl Bill {
    pub(super) fn add(&mut self, package: Package) -> Id {
        let id = package.id.clone();
        self.packages.insert(id.clone(), package);
        id
    }

    pub(super) fn relate(&mut self, one: &Id, relation: Relation, other: &Id) {
        self.relationships.insert(Relationship {
            spdx_element_id: one.clone(),
            relationship_type: relation,
            related_spdx_element: other.clone(),
        });
    }

    /// The document that describes this package. `key` tells it from all others.
    pub(super) fn document(mut self, name: &str, described: &Id, key: &str) -> serde_json::Result<Vec<u8>> {
        let document = Id("SPDXRef-DOCUMENT".to_owned());
        self.relate(&document, Relation::Describes, described);
        let document = Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: document,
            name,
            document_namespace: format!("https://spdx.org/spdxdocs/mvm-appliance-{key}"),
            creation_info: CreationInfo {
                created: CREATED,
                creators: [concat!("Tool: mvm-", env!("CARGO_PKG_VERSION"))],
            },
            packages: self.packages.into_values().collect(),
            relationships: self.relationships,
        };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: Id,
    name: &'a str,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    relationships: BTreeSet<Relationship>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    created: &'static str,
    creators: [&'static str; 1],
}
