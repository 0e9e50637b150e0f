//! A disc, or a stick that is written like one: firmware starts either.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rootfs::tarball::TIME;
use crate::tools::Tool;

/// [`TIME`] as xorriso has dates.
const DATE: &str = "2024010100000000";

/// The file's name, where it is made and on the disc.
pub(super) const BOOT: &str = "boot.fat";

/// Why there is no disc.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("xorriso failed: {message}")]
    Failed { message: String },
}

/// Writes a disc with one file, its boot image (El Torito): the firmware's file system `boot`, which is a partition, too.
pub(super) fn make(xorriso: &Tool, boot: &Path, image: &Path) -> Result<(), IsoError> {
    let (program, before) = xorriso.command.split_first().map_or(("", &[][..]), |(p, b)| (p.as_str(), b));
    let failed = |source| IsoError::Start { program: program.to_owned(), source };
    let image = std::path::absolute(image).map_err(failed)?;
    // Named from there: an equals sign in a path would be one too many.
    let directory = boot.parent().unwrap_or(Path::new("."));
    let output = Command::new(program)
        .args(before)
        // It takes nothing from the user's own files.
        .args(["-no_rc", "-as", "mkisofs", "-quiet", "-V", "MVM"])
        .args(["-uid", "0", "-gid", "0", "-dir-mode", "0755", "-file-mode", "0444"])
        .args(["--set_all_file_dates", DATE])
        // Up to the end of the disc, since the number of its sectors has only 16 bits (UEFI 2.10, 13.3.2.1).
        .args(["-e", BOOT, "-no-emul-boot", "-boot-load-size", "1"])
        .args(["-efi-boot-part", "--efi-boot-image", "-o"])
        .arg(image)
        .args(["-graft-points", &format!("{BOOT}={BOOT}")])
        .current_dir(directory)
        // All ids come from it, and the disc's own date.
        .env("SOURCE_DATE_EPOCH", TIME.to_string())
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(IsoError::Failed { message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
