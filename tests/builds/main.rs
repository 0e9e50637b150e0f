//! `mvm build` with a real builder, and what it does beside buildx: one instance for all.

mod bake;
mod cases;
mod inputs;
mod kept;
mod options;
mod outputs;
mod registries;
#[path = "../support/mod.rs"]
mod support;
