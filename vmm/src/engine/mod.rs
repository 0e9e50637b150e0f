//! What executes a guest's instructions.

pub mod native;
pub mod tcg;
