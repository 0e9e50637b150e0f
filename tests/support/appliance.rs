//! The appliance that the tests' machines boot, as files.

use std::path::PathBuf;
use std::sync::OnceLock;

use images::progress::Silent;
use images::tools::{self, Tool};
use images::{Directories, Pins};

use super::Instance;

/// What a machine is made of.
#[derive(Debug)]
pub struct Appliance {
    pub kernel: PathBuf,
    pub root: PathBuf,
    /// Its manifest's.
    pub digest: String,
    /// The program that is QEMU, and what has to stand before its options.
    pub qemu: Vec<String>,
    /// The directory in which it was unpacked, with all that it needs.
    pub qemu_root: PathBuf,
}

impl Appliance {
    /// Made by `mvm image build`, unless it is there. Pins that are gone from the mirror are no failure of a test.
    pub fn built() -> &'static Self {
        static BUILT: OnceLock<Appliance> = OnceLock::new();
        BUILT.get_or_init(Self::build)
    }

    fn build() -> Self {
        let instance = Instance::bare("appliance");
        let made = instance.mvm(&["image", "build", "--relock", "--json"]).ok();
        let made: serde_json::Value =
            serde_json::from_str(&made).expect("`mvm image build --json` prints JSON");
        let text =
            |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
        let path = |name: &str| PathBuf::from(text(name));
        let Tool { command: qemu, root: qemu_root } = unpacked("qemu");
        Self { kernel: path("kernel"), root: path("root"), digest: text("digest"), qemu, qemu_root }
    }
}

/// A tool that mvm brings, unpacked.
pub fn unpacked(name: &str) -> Tool {
    let directories =
        Directories { data: Instance::data().join("mvm"), cache: Instance::cache().join("mvm") };
    tools::ensure(name, &directories, Pins::Exact, &Silent)
        .unwrap_or_else(|error| panic!("no {name}: {error}"))
}
