//! Where the tests of our own VMM run: on this machine, if its KVM can run a kernel, otherwise in the rig.

use std::any::type_name_of_val;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::artifact::{STATIC, built};
use super::{Appliance, MVM, rig, skipped};

/// Set for a test program that runs inside the rig: the directory of the [`Parts`] there.
pub(super) const INSIDE: &str = "MVM_RIG";

enum Place {
    /// The machine that this program runs on; that may be the rig's.
    Host,
    /// The same test, started once more inside the rig.
    Rig,
}

/// What a machine of our own is made of, as files.
#[derive(Debug)]
pub struct Parts {
    /// The program under test.
    pub mvm: PathBuf,
    /// The appliance's.
    pub kernel: PathBuf,
    /// An initial ramdisk with `rig-init` and nothing else.
    pub initrd: PathBuf,
}

impl Parts {
    /// Those of the place where this program runs.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Parts> = OnceLock::new();
        HERE.get_or_init(|| match std::env::var_os(INSIDE) {
            Some(directory) => Self::below(Path::new(&directory)),
            None => Self {
                mvm: MVM.into(),
                kernel: Appliance::built().kernel.clone(),
                initrd: rig::guests_ramdisk(&rig_init()),
            },
        })
    }

    /// Where they are inside the rig.
    pub(super) fn below(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name);
        Self { mvm: path("mvm"), kernel: path("vmlinux"), initrd: path("guest.cpio") }
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
    match place() {
        Place::Host => test(),
        Place::Rig => rig::run_test(name(&test)),
    }
}

/// The only one to decide it.
fn place() -> Place {
    if std::env::var_os(INSIDE).is_some() { Place::Host } else { Place::Rig }
}

/// As the test harness calls it: `PROGRAM::MODULE::TEST::{{closure}}` without what stands around it.
fn name<T>(test: &T) -> &'static str {
    let path = type_name_of_val(test).split_once("::").map_or("", |(_, path)| path);
    path.split("::{{").next().unwrap_or(path)
}

pub(super) fn rig_init() -> PathBuf {
    built("rig", ["--bin", "rig-init"], STATIC)
}
