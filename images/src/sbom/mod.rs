//! The bill of materials of an appliance: everything that it is made of, as far down as its parts say.
//!
//! The appliance contains the kernel, the guest binary and the images. A component of mvm's own contains the Debian packages
//! of which it keeps files; an image of somebody else's what its builder has listed, else what its package manager has noted
//! down. Packages are generated from their sources, and the guest binary is linked with its crates.

pub(crate) mod attestation;
mod databases;
mod purl;
mod spdx;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use self::databases::{Found, built, source_of};
use self::spdx::{Bill, Id, Package, Purpose, Relation};
use crate::deb::{self, DebError};
use crate::files::{self, Key};
use crate::kernel::Origin;
use crate::lock::{Name, Pin};
use crate::origin::Images;
use crate::packages::{Packages, PackagesError};
use crate::provenance;
use crate::request::Guest;
use crate::rootfs::bundle::Made;

/// What mvm itself is versioned as.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Debian's packages, and whose they are.
const DEB: &str = "deb";
const DEBIAN: &str = "debian";
const SUPPLIER: &str = "Debian";
/// Who supplies the rest.
const OWN_SUPPLIER: &str = "mvm";

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write it")]
    Write(#[from] serde_json::Error),
}

/// What it is made of.
pub(crate) struct Contents<'a> {
    /// Under which name the appliance is kept.
    pub(crate) reference: &'a str,
    /// The key of everything that went in.
    pub(crate) inputs: &'a str,
    pub(crate) kernel: &'a Origin,
    pub(crate) kernel_image: &'a Path,
    pub(crate) guest: Guest<'a>,
    pub(crate) images: &'a Images<'a>,
    pub(crate) packages: &'a Packages<'a>,
}

impl Contents<'_> {
    /// The bill, as a document of SPDX.
    pub(crate) fn document(&self) -> Result<Vec<u8>, SbomError> {
        let mut bill = Bill::default();
        let key = Key::default().with(self.reference).with(self.inputs).short();
        let appliance = Package::new("appliance", self.reference, &[self.inputs], Purpose::OperatingSystem);
        let appliance = bill.add(appliance);
        let mut parts = vec![self.kernel(&mut bill)?, self.guest(&mut bill)];
        for made in self.images.unpacked.values().chain(self.images.whole.values()) {
            parts.push(match &made.id.digest {
                Some(digest) => image(&mut bill, made, digest),
                None => self.component(&mut bill, made)?,
            });
        }
        for part in parts {
            bill.relate(&appliance, Relation::Contains, &part);
        }
        Ok(bill.document(self.reference, &appliance, &key)?)
    }

    fn kernel(&self, bill: &mut Bill) -> Result<Id, SbomError> {
        let read = |source| SbomError::Read { path: self.kernel_image.to_owned(), source };
        let hash = files::sha256(self.kernel_image).map_err(read)?;
        let materials = match self.kernel {
            Origin::Own { kernel, .. } => kernel.materials(),
            Origin::Stored { spec, image } => {
                let digest = image.digest();
                let kernel = Package::new("kernel", &spec.image, &[&hash], Purpose::OperatingSystem)
                    .version(digest)
                    .sha256(&hash)
                    .purl(purl::of_image(&spec.image, digest));
                return Ok(bill.add(kernel.comment("A file of that image.")));
            }
        };
        let pin = self.packages.lock.pin(materials.source).map_err(PackagesError::from)?;
        // The version without Debian's own revision.
        let version = pin.version.rsplit_once('-').map_or(pin.version.as_str(), |(upstream, _)| upstream);
        let kernel = Package::new("kernel", "linux", &[&hash], Purpose::OperatingSystem)
            .version(version)
            .supplier(OWN_SUPPLIER)
            .sha256(&hash)
            .cpe(format!("cpe:2.3:o:linux:linux_kernel:{version}:*:*:*:*:*:*:*"))
            .comment("Built by mvm of the source in a Debian package, with a configuration and patches of its own.");
        let kernel = bill.add(kernel);
        // Sources in packages are the same for all; this one is not here when its kernel was compiled before.
        let source = bill.add(debian(materials.source, "all", pin));
        bill.relate(&kernel, Relation::GeneratedFrom, &source);
        for fragment in materials.fragments {
            let configuration = bill.add(own_file("kernel-configuration", fragment));
            bill.relate(&kernel, Relation::GeneratedFrom, &configuration);
        }
        for patch in materials.patches {
            let patch = bill.add(own_file("kernel-patch", patch));
            bill.relate(&patch, Relation::PatchApplied, &kernel);
        }
        Ok(kernel)
    }

    fn guest(&self, bill: &mut Bill) -> Id {
        let hash = hex::encode(Sha256::digest(self.guest.binary));
        let guest = Package::new("guest", "mvm guest", &[&hash], Purpose::Application);
        let guest = bill.add(guest.version(VERSION).supplier(OWN_SUPPLIER).sha256(&hash));
        for line in self.guest.crates.lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(version), Some(hash)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let linked = Package::new("cargo", name, &[version], Purpose::Library)
                .version(version)
                .sha256(hash)
                .purl(purl::purl("cargo", "", (name, version), &[]));
            let linked = bill.add(linked);
            bill.relate(&guest, Relation::StaticLink, &linked);
        }
        guest
    }

    /// A component, with the packages that it has files of.
    fn component(&self, bill: &mut Bill, made: &Made) -> Result<Id, SbomError> {
        let component = Package::new("component", &made.id.name, &[VERSION], Purpose::Container);
        let component = component.version(VERSION).supplier(OWN_SUPPLIER);
        let component = bill.add(component.comment("Made by mvm of files of packages."));
        let origins = made.tree.entries().filter_map(|(_, entry)| entry.origin.as_ref());
        let used: BTreeSet<&provenance::Package> = origins.flat_map(|origin| origin.packages()).collect();
        for package in used {
            let name = Name {
                suite: package.suite.clone(),
                architecture: package.architecture.clone(),
                package: package.name.clone(),
            };
            let pin = self.packages.lock.pin(&name).map_err(PackagesError::from)?;
            let control = deb::control(&self.packages.file(&name)?)?;
            let distribution = (DEB, DEBIAN, package.suite.as_str());
            let source = source_of(distribution, (&control.source, &control.source_version));
            let source = bill.add(source.supplier(SUPPLIER).maintainer(&control.maintainer));
            let built = debian(&name, &control.architecture, pin).maintainer(&control.maintainer);
            let built = bill.add(built);
            bill.relate(&built, Relation::GeneratedFrom, &source);
            bill.relate(&component, Relation::Contains, &built);
        }
        Ok(component)
    }
}

/// An image of somebody else's, with the packages that it says it has.
fn image(bill: &mut Bill, made: &Made, digest: &str) -> Id {
    let name = &made.id.name;
    let mut image = Package::new("image", name, &[digest], Purpose::Container)
        .version(digest)
        .sha256(digest.trim_start_matches("sha256:"))
        .purl(purl::of_image(name, digest));
    let found = if made.listed.is_empty() { databases::read(&made.tree) } else { Found::default() };
    if found.is_cut {
        image = image.comment("It names more packages than can be listed; these are the first of them.");
    }
    let image = bill.add(image);
    for listed in &made.listed {
        let listed = bill.add(listed.package());
        bill.relate(&image, Relation::Contains, &listed);
    }
    for installed in found.installed {
        let (built, source) = (bill.add(installed.package), bill.add(installed.source));
        bill.relate(&built, Relation::GeneratedFrom, &source);
        bill.relate(&image, Relation::Contains, &built);
    }
    image
}

/// A locked package.
fn debian(name: &Name, architecture: &str, pin: &Pin) -> Package {
    let package = (name.package.as_str(), pin.version.as_str(), architecture);
    built((DEB, DEBIAN, &name.suite), package).sha256(&pin.sha256).supplier(SUPPLIER)
}

/// A file that mvm brings.
fn own_file(kind: &str, (name, text): &(String, &'static str)) -> Package {
    let hash = hex::encode(Sha256::digest(text));
    Package::new(kind, name, &[&hash], Purpose::File).supplier(OWN_SUPPLIER).sha256(&hash)
}

#[cfg(test)]
mod tests;
