//! What can be done with files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::{each, read, reason};

/// Those that every container has, and some of the machine's.
const DEVICES: [&str; 9] = [
    "/dev/full",
    "/dev/kmsg",
    "/dev/null",
    "/dev/other",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/vda",
    "/dev/zero",
];

/// `TYPE MAJOR:MINOR MODE`, and what comes of opening it to read.
pub(crate) fn devices() -> Value {
    each(&DEVICES, |path| match device(Path::new(path)) {
        Ok(device) => device,
        Err(error) => reason(&error),
    })
}

fn device(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    let kind = if metadata.file_type().is_block_device() { 'b' } else { 'c' };
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    let opened = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(_) => "opens".to_owned(),
        Err(error) => reason(&error),
    };
    Ok(format!("{kind} {major}:{minor} {:04o} {opened}", metadata.mode() & 0o7777))
}

/// Whether a file can be made in a directory.
pub(crate) fn write(directory: &str) -> String {
    let path = Path::new(directory).join(".written");
    let made = File::create(&path).and_then(|_| fs::remove_file(&path));
    made.map_or_else(|error| reason(&error), |()| "yes".to_owned())
}

/// The text of a file, the names in a directory.
pub(crate) fn see(path: &str) -> Value {
    let path = Path::new(path);
    let seen = fs::metadata(path).and_then(|metadata| {
        if !metadata.is_dir() {
            return Ok(json!(read(path)?));
        }
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(json!(names))
    });
    seen.unwrap_or_else(|error| reason(&error).into())
}
