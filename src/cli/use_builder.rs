//! `mvm use`: which builder is used where none is named.

use super::{Context, Failure, nodes};
use crate::builders::Builders;
use crate::instance::Name;

/// Use a builder or an instance wherever none is named
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A builder of `mvm create`, or an instance
    name: Name,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let found = nodes::find(context, &args.name).map_err(Failure::usage)?;
    Builders::at(&context.home).set_in_use(&found.name)?;
    for variable in ["DOCKER_HOST", "BUILDKIT_HOST", "MVM_BUILDER", "MVM_INSTANCE"] {
        if std::env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            eprintln!("{variable} is set, and counts before it");
        }
    }
    Ok(())
}
