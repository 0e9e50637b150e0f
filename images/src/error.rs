//! Why a build comes to no appliance: the error that callers of this crate see.

use std::io;
use std::path::PathBuf;

use crate::component::ComponentError;
use crate::exclusive::ExclusiveError;
use crate::image::ImageError;
use crate::kernel::{ForeignError, KernelError};
use crate::locking::LockingError;
use crate::output::OutputError;
use crate::packages::PackagesError;
use crate::provenance::ProvenanceError;
use crate::rebuild::RebuildError;
use crate::recipe::RecipeError;
use crate::rootfs::bundle::BundleError;
use crate::rootfs::erofs::ErofsError;
use crate::sbom::SbomError;
use crate::source::SourceError;
use crate::spec::NameError;
use crate::store::StoreError;
use crate::tools::ToolError;

/// Why there is no appliance.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the definition names no kernel; give one with an image")]
    NoKernel,
    #[error(transparent)]
    ForeignKernel(#[from] ForeignError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(
        "there is no image {0}: it is not one of mvm's own (mvm/NAME), and neither `mvm image pull {0}` nor `mvm image import FILE` has brought it"
    )]
    NoImage(String),
    #[error(
        "the image {name} is not here as the lock has it, {digest}; `mvm image pull` brings it by that digest"
    )]
    NoLockedImage { name: String, digest: String },
    #[error(
        "the volume {volume} cannot hold {image} as an OCI image: mvm makes it of packages; give one that `mvm image import` has taken over"
    )]
    NoWhole { volume: String, image: String },
    #[error("the image {name} cannot be used")]
    Image { name: String, source: ImageError },
    #[error("the container {container} cannot be described")]
    Name { container: String, source: NameError },
    #[error(transparent)]
    Locking(#[from] LockingError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("cannot get the packages")]
    Packages(#[from] PackagesError),
    #[error("cannot make the kernel")]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot make the root image")]
    Erofs(#[from] ErofsError),
    #[error(transparent)]
    Container(#[from] BundleError),
    #[error("the definition cannot be written")]
    Metadata(#[source] serde_yaml::Error),
    #[error(
        "{appliance} has a file of the host in it that it was made on, /{path}, and cannot be made again without the files of its definition; give them: mvm image verify {appliance} --rebuild FILE..."
    )]
    HostFile { appliance: String, path: String },
    #[error("cannot put {path} into the root")]
    File { path: String, source: io::Error },
    #[error("where the appliance comes from cannot be told")]
    Provenance(#[from] ProvenanceError),
    #[error("cannot make the bill of materials")]
    Sbom(#[from] SbomError),
    #[error("the appliance's configuration cannot be written")]
    Config(#[from] serde_json::Error),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}
