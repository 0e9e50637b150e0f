//! What a single text has to be, by the name that the schema gives it in `format`.

use std::ops::RangeInclusive;
use std::path::Path;

use super::validate::nearest;
use crate::rootfs::{links, mounts, oci};

const MODE: &str = "mode";
const DEVICE_MODE: &str = "device-mode";
/// What may stand without quotes, though it is no number: as it is written. LinuxKit wants them, and its own examples have
/// none.
pub(super) const WRITTEN_AS_NUMBERS: [&str; 2] = [MODE, DEVICE_MODE];

/// What the name of each capability begins with.
const CAPABILITY: &str = "CAP_";

/// What is wrong with a text, and what to do about it.
type Wrong = (String, Option<String>);

/// Each by whoever reads it later. A format that is not known here is taken as it is.
pub(super) fn check(format: &str, text: &str) -> Result<(), Wrong> {
    let plain = |error: String| (error, None);
    match format {
        "name" if !is_name(text) => Err((
            format!("the name {text:?} cannot be a directory's"),
            Some("it may hold letters, digits, '.', '_' and '-', and be neither '.' nor '..'".to_owned()),
        )),
        "volume" if !is_volume(text) => Err((
            format!("invalid volume name: {text:?}"),
            Some("it may hold small letters, digits, '_' and '-'".to_owned()),
        )),
        "image" if text.trim() != text || text.is_empty() => {
            Err(plain(format!("{text:?} is no name of an image")))
        }
        "path" if text.contains('\0') => Err(plain(format!("the path {text:?} has a zero in it"))),
        "path" if links::below_root(Path::new(text)).is_none_or(|path| path.is_empty()) => {
            Err(plain(format!("the path {text:?} leads out of the root")))
        }
        MODE if octal(text).is_none() => {
            Err((format!("cannot read the mode {text:?}"), Some("it is octal, as in \"0644\"".to_owned())))
        }
        DEVICE_MODE if octal(text).is_none() && !is_access(text) => Err((
            format!("cannot read the mode {text:?}"),
            Some("it is octal, as in \"0644\", or of r, w and m for the path all".to_owned()),
        )),
        "bind" => mounts::bind(text).map(drop).map_err(|error| plain(error.to_string())),
        "tmpfs" => mounts::tmpfs(text).map(drop).map_err(|error| plain(error.to_string())),
        "rlimit" => oci::rlimit(text).map(drop).map_err(|error| plain(error.to_string())),
        "namespace" => oci::namespace(text)
            .map(drop)
            .map_err(|error| (error.to_string(), Some("it is host, new, none or a path".to_owned()))),
        "capability" => {
            oci::capability_set(text).map(drop).map_err(|error| (error.to_string(), capability_like(text)))
        }
        _ => Ok(()),
    }
}

/// By what distinguishes them.
fn capability_like(text: &str) -> Option<String> {
    let names = oci::ALL_CAPABILITIES.into_iter().filter_map(|name| name.strip_prefix(CAPABILITY));
    let text = text.to_uppercase();
    let near = nearest(text.strip_prefix(CAPABILITY).unwrap_or(&text), names)?;
    Some(format!("did you mean `{CAPABILITY}{near}`?"))
}

/// What a number may be.
pub(super) fn range(format: &str) -> RangeInclusive<i128> {
    match format {
        "uint16" => 0..=u16::MAX.into(),
        "uint32" => 0..=u32::MAX.into(),
        "uint64" => 0..=u64::MAX.into(),
        "int32" => i32::MIN.into()..=i32::MAX.into(),
        _ => i64::MIN.into()..=i64::MAX.into(),
    }
}

/// The bits of permissions.
fn octal(text: &str) -> Option<u32> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777)
}

/// What a device may be used for, which stands where its mode does for the path `all`.
fn is_access(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte))
}

/// Names become names of directories and of control groups.
fn is_name(name: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !matches!(name, "" | "." | "..") && name.bytes().all(is_name_byte)
}

fn is_volume(name: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_name_byte)
}
