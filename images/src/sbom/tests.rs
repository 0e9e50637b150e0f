//! A bill of everything that there can be, held against the rules of SPDX 2.3.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::lock::Lock;
use crate::progress::Silent;
use crate::provenance::ImageId;
use crate::request::Directories;
use crate::rootfs::{Entry, Tree};
use crate::spec::OwnConfig;

/// With a kernel, a guest of one crate, and two images of somebody else's, one of them as it is.
fn bill() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let directories = Directories { data: directory.path().to_owned(), cache: directory.path().to_owned() };
    let kernel = crate::kernel::Kernel::load("kernel").unwrap();
    let mut lock = Lock::default();
    let pin = Pin { version: "6.12.9-1".into(), size: 1, sha256: "0a".repeat(32) };
    lock.set_pin(kernel.materials().source, pin);
    let mut tree = Tree::default();
    let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.41+1\nMaintainer: Some Team <a@example.org>\n";
    tree.put("var/lib/dpkg/status", Entry::file(0o644, status.as_bytes()));
    let id = ImageId { name: "test/greeter:1".into(), digest: Some(format!("sha256:{}", "0b".repeat(32))) };
    let greeter = Made { tree, config: OwnConfig::default(), id, listed: Vec::new() };
    let id = ImageId { name: "test/kept:1".into(), digest: Some(format!("sha256:{}", "0d".repeat(32))) };
    let kept = Made { tree: Tree::default(), config: OwnConfig::default(), id, listed: Vec::new() };
    let images =
        Images { unpacked: [("test/greeter:1", greeter)].into(), whole: [("a volume", kept)].into() };
    let kernel = Origin::Own { name: "mvm/kernel".into(), kernel: Box::new(kernel) };
    let vmlinux = directory.path().join("vmlinux");
    std::fs::write(&vmlinux, "kernel").unwrap();
    let crates = format!("serde 1.0.1 {}\n", "0c".repeat(32));
    let contents = Contents {
        reference: "mine",
        inputs: "inputs",
        kernel: &kernel,
        kernel_image: &vmlinux,
        guest: Guest { binary: b"guest", crates: &crates },
        images: &images,
        packages: &Packages { directories: &directories, lock: &lock, progress: &Silent },
    };
    contents.document().unwrap()
}

/// `NAME RELATION NAME`, in the order of the document.
fn relations(document: &Value) -> Vec<String> {
    let packages = document["packages"].as_array().unwrap();
    let name = |id: &Value| {
        let found = packages.iter().find(|package| package["SPDXID"] == *id);
        found.map_or("the document", |package| package["name"].as_str().unwrap())
    };
    let relation = |one: &Value| {
        let (from, to) = (name(&one["spdxElementId"]), name(&one["relatedSpdxElement"]));
        format!("{from} {} {to}", one["relationshipType"].as_str().unwrap())
    };
    document["relationships"].as_array().unwrap().iter().map(relation).collect()
}

#[test]
fn a_bill_is_what_the_specification_says_and_always_the_same() {
    let bytes = bill();
    assert_eq!(bill(), bytes);
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["dataLicense"], "CC0-1.0");
    let namespace = document["documentNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("https://spdx.org/spdxdocs/mvm-appliance-"), "{namespace}");
    let mut ids = vec!["SPDXRef-DOCUMENT"];
    assert_eq!(document["SPDXID"], ids[0]);
    for package in document["packages"].as_array().unwrap() {
        for field in ["name", "downloadLocation", "licenseConcluded", "copyrightText", "supplier"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {package}");
        }
        assert_eq!(package["filesAnalyzed"], false);
        for checksum in package["checksums"].as_array().into_iter().flatten() {
            assert_eq!(checksum["algorithm"], "SHA256");
            assert!(crate::lock::is_sha256(checksum["checksumValue"].as_str().unwrap()), "{package}");
        }
        let id = package["SPDXID"].as_str().unwrap();
        let rest = id.strip_prefix("SPDXRef-").unwrap();
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{id}");
        ids.push(id);
    }
    assert!(ids[1..].is_sorted(), "{ids:?}");
    let known: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len(), "each has an id of its own");
    for relationship in document["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(known.contains(relationship[end].as_str().unwrap()), "{relationship}");
        }
    }
}

#[test]
fn a_bill_says_what_contains_what_and_of_what_it_is_made() {
    let document: Value = serde_json::from_slice(&bill()).unwrap();
    let said: BTreeSet<_> = relations(&document).into_iter().collect();
    for expected in [
        "the document DESCRIBES mine",
        "mine CONTAINS linux",
        "mine CONTAINS mvm guest",
        "mine CONTAINS test/greeter:1",
        "mine CONTAINS test/kept:1",
        "linux GENERATED_FROM linux-source-6.12",
        "linux GENERATED_FROM x86_64.fragment",
        "0001-alternatives-decode-less.patch PATCH_APPLIED linux",
        "mvm guest STATIC_LINK serde",
        "test/greeter:1 CONTAINS libc6",
        "libc6 GENERATED_FROM glibc",
    ] {
        assert!(said.contains(expected), "{expected} is not said: {said:#?}");
    }
    let packages = document["packages"].as_array().unwrap();
    let find = |name: &str| packages.iter().find(|package| package["name"] == name).unwrap();
    let kernel = find("linux");
    assert_eq!(kernel["versionInfo"], "6.12.9");
    assert_eq!(
        kernel["externalRefs"][0]["referenceLocator"],
        "cpe:2.3:o:linux:linux_kernel:6.12.9:*:*:*:*:*:*:*"
    );
    assert_eq!(find("linux-source-6.12")["checksums"][0]["checksumValue"], "0a".repeat(32));
    assert_eq!(
        find("linux-source-6.12")["externalRefs"][0]["referenceLocator"],
        "pkg:deb/debian/linux-source-6.12@6.12.9-1?arch=all&distro=trixie"
    );
    assert_eq!(find("libc6")["originator"], "Organization: Some Team (a@example.org)");
    assert_eq!(find("serde")["externalRefs"][0]["referenceLocator"], "pkg:cargo/serde@1.0.1");
}
