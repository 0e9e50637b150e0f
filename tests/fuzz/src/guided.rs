//! The target that `MVM_FUZZ_TARGET` names, under libFuzzer, which is `main` here and has its arguments.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;
use fuzz::check::{Watched, run};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

static TARGET: OnceLock<Target> = OnceLock::new();

fn find() -> Target {
    fuzz::target(&std::env::var("MVM_FUZZ_TARGET").unwrap_or_default())
}

fuzz_target!(init: { TARGET.get_or_init(find); }, |input: &[u8]| run(*TARGET.get_or_init(find), input));
