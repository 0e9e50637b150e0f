//! Every fuzz target over its corpus and a fixed number of mutants.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;

use fuzz::TARGETS;
use fuzz::check::Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

const MUTANTS: usize = 20_000;
/// Each starts and ends threads.
const MUTANTS_WITH_THREADS: usize = 2_000;

fn check(name: &str) {
    let mutants = if name == "vhost_user" { MUTANTS_WITH_THREADS } else { MUTANTS };
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

targets! { acpi balloon blk config control handshake kernel layer mmio net vhost_user virtqueue vsock }
