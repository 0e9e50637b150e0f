//! `sysctl FILE...`: kernel settings, in the format of sysctl.d(5).

use std::io;
use std::path::{Path, PathBuf};

use super::Context;
use crate::bundle::path::resolve;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {text:?} is not KEY = VALUE", path.display())]
    Line { path: PathBuf, line: usize, text: String },
    #[error("cannot set {key} to {value:?}: {source}")]
    Set { key: String, value: String, source: io::Error },
}

#[derive(Debug, PartialEq, Eq)]
struct Setting<'a> {
    key: &'a str,
    value: &'a str,
    /// A `-` before the key: the kernel may lack it.
    optional: bool,
}

pub(super) fn run(context: &Context<'_>, args: &[String]) -> Result<(), Error> {
    for argument in args {
        for path in files(&resolve(&context.bundle.rootfs, argument))? {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| Error::Read { path: path.clone(), source })?;
            for setting in parse(&path, &text)? {
                apply(context, &setting)?;
            }
        }
    }
    Ok(())
}

/// The file itself, or the `.conf` files of a directory in name order.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

fn parse<'a>(path: &Path, text: &'a str) -> Result<Vec<Setting<'a>>, Error> {
    let mut settings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let bad =
            || Error::Line { path: path.to_owned(), line: number.saturating_add(1), text: line.to_owned() };
        let (key, value) = line.split_once('=').ok_or_else(bad)?;
        let (key, optional) = key.trim().strip_prefix('-').map_or((key.trim(), false), |key| (key, true));
        if key.is_empty() || key.contains("..") {
            return Err(bad());
        }
        settings.push(Setting { key, value: value.trim(), optional });
    }
    Ok(settings)
}

fn apply(context: &Context<'_>, setting: &Setting<'_>) -> Result<(), Error> {
    match std::fs::write(file_of(setting.key), setting.value) {
        Err(source) if setting.optional => {
            context.say(&format!("left out {}: {source}", setting.key));
            Ok(())
        }
        result => result.map_err(|source| Error::Set {
            key: setting.key.to_owned(),
            value: setting.value.to_owned(),
            source,
        }),
    }
}

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding`: whichever separator comes first is the separator.
fn file_of(key: &str) -> PathBuf {
    let dots = key.find('.').unwrap_or(usize::MAX) < key.find('/').unwrap_or(usize::MAX);
    let relative = if dots { key.replace('.', "/") } else { key.to_owned() };
    Path::new("/proc/sys").join(relative.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_comments_and_optional_keys() {
        let settings = parse(Path::new("f"), "# c\n; c\n\nnet.ipv4.ip_forward = 1\n-kernel.x=a b\n").unwrap();
        assert_eq!(settings[0], Setting { key: "net.ipv4.ip_forward", value: "1", optional: false });
        assert_eq!(settings[1], Setting { key: "kernel.x", value: "a b", optional: true });
    }

    #[test]
    fn a_bad_line_is_named_with_its_number() {
        let error = parse(Path::new("/etc/s.conf"), "\nwhat\n").unwrap_err();
        assert_eq!(error.to_string(), "/etc/s.conf:2: \"what\" is not KEY = VALUE");
        assert!(parse(Path::new("f"), "../../etc=1").is_err());
    }

    #[test]
    fn both_separators_mean_a_file() {
        assert_eq!(file_of("net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(file_of("net/ipv4/conf/eth0.1/x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
    }
}
