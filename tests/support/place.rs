//! Where the tests of our own VMM run: in the rig, and on this machine too where its own KVM can run a kernel.

use std::any::type_name_of_val;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::artifact::{STATIC, built};
use super::{Appliance, Instance, MVM, rig, rig_files, skipped};

/// Set for a test program that runs inside the rig: the directory of the [`Parts`] there.
const INSIDE: &str = "MVM_RIG";

/// What a machine of our own is made of, as files.
#[derive(Debug)]
pub struct Parts {
    /// The program under test.
    pub mvm: PathBuf,
    /// The appliance's.
    pub kernel: PathBuf,
    /// Debian's kernel, as it comes: compressed, and with most drivers in modules.
    pub foreign_kernel: PathBuf,
    /// An initial ramdisk with `rig-init` and nothing else.
    pub initrd: PathBuf,
    /// What `mvm up` finds as XDG_DATA_HOME: appliance and passt.
    pub data: PathBuf,
    /// Debian's static busybox for arm64.
    pub busybox: PathBuf,
}

impl Parts {
    /// Those of the place where this program runs.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Parts> = OnceLock::new();
        HERE.get_or_init(|| match inside() {
            Some(directory) => Self::below(&directory),
            None => Self {
                mvm: MVM.into(),
                kernel: Appliance::built().kernel.clone(),
                foreign_kernel: rig_files().join("vmlinuz"),
                initrd: rig::guests_ramdisk(&rig_init()),
                data: Instance::data(),
                busybox: rig::foreign_busybox(),
            },
        })
    }

    /// Where they are inside the rig.
    pub(super) fn below(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name);
        Self {
            mvm: path("mvm"),
            kernel: path("vmlinux"),
            foreign_kernel: path("vmlinuz"),
            initrd: path("guest.cpio"),
            data: path("data"),
            busybox: path("busybox-arm64"),
        }
    }
}

/// Runs a test where KVM is.
///
/// Pass it a closure of the test's own function: inside the rig that function is found by its name.
#[track_caller]
pub fn on_kvm<T: FnOnce()>(test: T) {
    if skipped("vmm") {
        return;
    }
    let name = name(&test);
    if is_inside_rig() {
        return test();
    }
    // A KVM of the host's own is another one than the rig's, and both have to do.
    if vmm::hypervisor::probe::probe().is_ok() {
        test();
    }
    rig::run_test(name);
}

/// Whether this program runs inside the rig, where every address but the guests' is its own.
pub fn is_inside_rig() -> bool {
    inside().is_some()
}

pub(super) fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// As the test harness calls it: `PROGRAM::MODULE::TEST::{{closure}}` without what stands around it.
fn name<T>(test: &T) -> &'static str {
    let path = type_name_of_val(test).split_once("::").map_or("", |(_, path)| path);
    path.split("::{{").next().unwrap_or(path)
}

pub(super) fn rig_init() -> PathBuf {
    built("rig", ["--bin", "rig-init"], STATIC)
}
