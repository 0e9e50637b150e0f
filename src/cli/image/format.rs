//! What `mvm image build` makes other than an appliance in the store: files.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use images::output::PlaceError;
use images::{Format, Output, Pins, Place, Source};

use crate::cli::appliance::{self, Order};
use crate::cli::output::print_line;
use crate::cli::{Context, Failure, progress};

/// Takes the names of formats, and names them all to whoever gives another.
pub(super) fn parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name))
        .map(|name| Format::named(&name).unwrap_or(Format::KernelErofs))
}

/// What files are wanted; none for an appliance in the store.
pub(super) fn wanted(
    format: Format,
    output: Option<&Path>,
    size_mib: Option<u32>,
    name: &str,
) -> Result<Option<Output>, Failure> {
    if size_mib.is_some() && !format.is_disk() {
        return Err(Failure::usage(format!("{} has no size of its own; leave out --size", format.name())));
    }
    if format == Format::KernelErofs && output.is_none() {
        return Ok(None);
    }
    let place = Place::new(format, output, name).map_err(|error| match error {
        PlaceError::Io { .. } => Failure::from(error),
        unfit => Failure::usage(unfit),
    })?;
    if place.is_stdout() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is nothing for a terminal; give --output FILE"));
    }
    Ok(Some(Output { format, size_mib, place }))
}

/// Makes the files and prints which.
pub(super) async fn write(
    context: Context,
    (source, pins): (Source, Pins),
    name: String,
    output: Output,
    json: bool,
) -> Result<(), Failure> {
    let output = Discarding(Arc::new(output));
    let making = Arc::clone(&output.0);
    let files = tokio::task::spawn_blocking(move || {
        let order = Order { pins, ..Order::of(source, &name) };
        order.write(&making, &appliance::directories(&context), progress::to_stderr().as_ref())
    });
    let files = files.await??;
    print(output.0.format, &files, json)
}

/// Takes away what is not finished when nobody waits for it any more, as after Ctrl-C: the thread that makes it goes on until
/// the process ends.
struct Discarding(Arc<Output>);

impl Drop for Discarding {
    fn drop(&mut self) {
        self.0.place.discard();
    }
}

fn print(format: Format, files: &[PathBuf], json: bool) -> Result<(), Failure> {
    // What went to standard output is there alone.
    if files.is_empty() {
        return Ok(());
    }
    if json {
        let shown = serde_json::json!({"format": format.name(), "files": files});
        return print_line(shown);
    }
    files.iter().try_for_each(|file| print_line(file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(format: Format, output: Option<&str>, size_mib: Option<u32>) -> String {
        match wanted(format, output.map(Path::new), size_mib, "my") {
            Err(Failure::Usage(cause)) => cause.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_appliance_is_stored_unless_its_files_are_wanted() {
        assert!(wanted(Format::KernelErofs, None, None, "my").unwrap().is_none());
        let directory = tempfile::tempdir().unwrap();
        assert!(wanted(Format::KernelErofs, Some(directory.path()), None, "my").unwrap().is_some());
    }

    #[test]
    fn what_does_not_fit_together_is_a_mistake_of_the_arguments() {
        assert_eq!(refused(Format::Tar, None, Some(64)), "tar has no size of its own; leave out --size");
        assert_eq!(
            refused(Format::IsoEfi, Some("-"), None),
            "iso-efi goes into a file or a directory, and not to standard output"
        );
    }
}
