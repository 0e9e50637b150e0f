//! Images for tests, made with mvm itself from Debian's busybox of each architecture.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Instance, Registry, TOP, run};

/// The platforms of every multi-platform test, and how each machine names itself.
pub const PLATFORMS: [(&str, &str); 3] =
    [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64"), ("linux/arm/v7", "armv7l")];

/// Debian's names for their architectures, and Docker's.
const ARCHITECTURES: [(&str, &str); 3] = [("amd64", "amd64"), ("arm64", "arm64"), ("armhf", "armv7")];

/// A base image with busybox for all three platforms, in a registry.
#[derive(Debug)]
pub struct Base {
    pub image: String,
}

impl Base {
    /// Fetches the packages that [`Base::push`] needs.
    pub fn prefetch() {
        for (debian, _) in ARCHITECTURES {
            packages(debian);
        }
    }

    /// What it is built from.
    pub fn context() -> TempDir {
        let directory = tempfile::tempdir().expect("a directory for the base image");
        for (debian, docker) in ARCHITECTURES {
            busybox(debian, &directory.path().join(format!("busybox-{docker}")));
        }
        let dockerfile = Path::new(TOP).join("demo/base/Dockerfile");
        fs::copy(dockerfile, directory.path().join("Dockerfile"))
            .expect("the base image's Dockerfile is copied");
        directory
    }

    /// Builds it in this instance, and pushes it.
    pub fn push(instance: &Instance, registry: &Registry) -> Self {
        let image = registry.image("base:latest");
        let directory = Self::context();
        let platforms = PLATFORMS.map(|(platform, _)| platform).join(",");
        let path = directory.path().to_str().expect("the path is UTF-8");
        instance.mvm(&["build", "--platform", &platforms, "-t", &image, "--push", path]).ok();
        Self { image }
    }
}

/// Puts Debian's static busybox for one architecture at a path.
pub(super) fn busybox(architecture: &str, target: &Path) {
    let packages = packages(architecture);
    let mut files = fs::read_dir(&packages).expect("the packages' directory can be read").flatten();
    let package = files.find(|file| file.path().extension().is_some_and(|end| end == "deb"));
    let package = package.expect("a package was fetched").path();
    let root = tempfile::tempdir().expect("a directory for a package");
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(root.path())).ok();
    // At once: another program may be reading it.
    let making = tempfile::NamedTempFile::new_in(target.parent().expect("a directory for busybox"));
    let making = making.expect("a file beside busybox");
    fs::copy(root.path().join("usr/bin/busybox"), making.path()).expect("busybox is copied");
    fs::set_permissions(making.path(), fs::Permissions::from_mode(0o755))
        .expect("busybox is made executable");
    making.persist(target).expect("busybox gets its name");
}

/// The directory that holds the package, after it was fetched.
fn packages(architecture: &str) -> PathBuf {
    let packages = Instance::cache().join(format!("mvm/test-tools/packages-{architecture}"));
    let fetch = format!("{TOP}/scripts/fetch-packages");
    run(Command::new(fetch).arg(&packages).args(["trixie,forky", architecture, "busybox-static"])).ok();
    packages
}

/// A build context with these files.
pub fn context(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory for a build context");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file of the build context is written");
    }
    directory
}

/// The steps of the Dockerfile that a plain progress log tells of, each with whether it came from the cache.
pub fn steps(log: &str) -> Vec<(String, bool)> {
    let mut steps: Vec<(&str, String, bool)> = Vec::new();
    for line in log.lines() {
        let Some((number, text)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let is_step = text.starts_with('[')
            && ["] RUN ", "] COPY ", "] WORKDIR "].iter().any(|word| text.contains(word));
        if is_step && !steps.iter().any(|(known, ..)| *known == number) {
            steps.push((number, text.to_owned(), false));
        }
        if text == "CACHED" {
            steps.iter_mut().filter(|(known, ..)| *known == number).for_each(|step| step.2 = true);
        }
    }
    steps.into_iter().map(|(_, text, cached)| (text, cached)).collect()
}
