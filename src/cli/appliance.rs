//! The appliance that an instance boots: made at the first run, found afterwards.

use std::path::PathBuf;

use images::progress::Progress;
use images::{Appliance, DEFAULT_REFERENCE, Directories, Output, Pins, Request, Source, Store};

use super::{Context, Failure};

/// The guest binary, built by build.rs.
static GUEST: &[u8] = include_bytes!(env!("MVM_EMBEDDED_GUEST"));

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "this mvm was built without a guest binary; build it again with MVM_GUEST_BINARY set to one built on Linux"
    )]
    NoGuest,
    #[error(
        "there is no appliance named {0}; `mvm image ls` shows which there are, `mvm image build FILE` makes one"
    )]
    Unknown(String),
}

/// Where this user's appliances, tools and packages lie.
pub(super) fn directories(context: &Context) -> Directories {
    Directories { data: context.home.data.clone(), cache: context.home.cache.clone() }
}

/// Finds the appliance of that name, or makes the one that this mvm carries. Blocks: for minutes at the first run.
pub(super) fn ensure(
    directories: &Directories,
    name: Option<&str>,
    progress: &dyn Progress,
) -> Result<Appliance, Failure> {
    if let Some(name) = name.filter(|name| *name != DEFAULT_REFERENCE) {
        let found = Store::open(&directories.images())?.find(name)?;
        return found.ok_or_else(|| Error::Unknown(name.to_owned()).into());
    }
    if Store::open(&directories.images())?.find(DEFAULT_REFERENCE)?.is_none() {
        eprintln!("{}", estimate(directories));
    }
    build(directories, Source::Embedded, Pins::Exact, DEFAULT_REFERENCE, progress)
}

/// Makes an appliance, unless nothing has changed since it was made.
pub(super) fn build(
    directories: &Directories,
    source: Source,
    pins: Pins,
    reference: &str,
    progress: &dyn Progress,
) -> Result<Appliance, Failure> {
    Ok(images::build(&request(directories, source, pins, reference, progress)?)?)
}

/// Makes it as files of another format; which they are.
pub(super) fn write(
    directories: &Directories,
    source: Source,
    pins: Pins,
    reference: &str,
    (output, progress): (&Output, &dyn Progress),
) -> Result<Vec<PathBuf>, Failure> {
    Ok(images::write(&request(directories, source, pins, reference, progress)?, output)?)
}

fn request<'a>(
    directories: &'a Directories,
    source: Source,
    pins: Pins,
    reference: &'a str,
    progress: &'a dyn Progress,
) -> Result<Request<'a>, Error> {
    if GUEST.is_empty() {
        return Err(Error::NoGuest);
    }
    Ok(Request { source, guest: GUEST, directories, pins, reference, progress })
}

/// What the first run costs. The kernel takes about 13 minutes of one core, the rest is downloads.
pub(super) fn estimate(directories: &Directories) -> String {
    let kernels =
        std::fs::read_dir(directories.cache.join("kernels")).is_ok_and(|mut found| found.next().is_some());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let minutes = if kernels { 2 } else { 3_usize.saturating_add(13_usize.div_ceil(cores)) };
    format!("making the appliance, once: about {minutes} minutes, most of it for its kernel and downloads")
}
