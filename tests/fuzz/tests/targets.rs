//! Every fuzz target over its corpus and a fixed number of mutants.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;

use fuzz::TARGETS;
use fuzz::check::Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

const MUTANTS: usize = 20_000;
/// Each starts and ends threads, or makes files.
const SLOW_MUTANTS: usize = 2_000;

fn check(name: &str) {
    let mutants = if ["image", "vhost_user"].contains(&name) { SLOW_MUTANTS } else { MUTANTS };
    fuzz::check::check(name, mutants, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz"));
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn each_target_is_run() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

targets! { acpi balloon blk config control handshake image kernel label layer lock mmio net vhost_user virtqueue vsock }
