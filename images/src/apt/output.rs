//! What apt-get prints, as values.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::thread;

/// A package as a suite has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) size: u64,
    /// Empty where apt names a weaker hash only; such a package cannot be locked.
    pub(crate) sha256: String,
}

/// The lines of `--print-uris`: `'URI' FILE SIZE HASH`, where FILE is `NAME_VERSION_ARCH.deb` with an escaped colon.
pub(super) fn candidates(text: &str) -> Vec<Candidate> {
    text.lines().filter(|line| line.starts_with('\'')).filter_map(candidate).collect()
}

fn candidate(line: &str) -> Option<Candidate> {
    let mut words = line.split_whitespace().skip(1);
    let mut parts = words.next()?.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    let size = words.next()?.parse().ok()?;
    let hash = words.next().unwrap_or_default();
    Some(Candidate {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        size,
        sha256: hash.strip_prefix("SHA256:").unwrap_or_default().to_owned(),
    })
}

/// What went wrong, of all that apt wrote: its errors, without their mark.
pub(super) fn reason(stderr: &str) -> String {
    let errors: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("E: ").or_else(|| line.strip_prefix("W: Failed to fetch")))
        .map(str::trim)
        .collect();
    if errors.is_empty() { stderr.trim().to_owned() } else { errors.join("; ") }
}

/// Runs apt with its status on standard output, and passes on how much of the download is done.
pub(super) fn run_with_status(command: &mut Command, percent: &mut dyn FnMut(f64)) -> io::Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut errors = child.stderr.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).map(|_| text)
    });
    let status_lines = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    for line in BufReader::new(status_lines).lines() {
        if let Some(done) = downloaded(&line?) {
            percent(done);
        }
    }
    let status = child.wait()?;
    let stderr = errors.join().map_err(|_| io::Error::other("reading apt's errors failed"))??;
    Ok(Output { status, stdout: Vec::new(), stderr })
}

/// A line of apt's status (`dlstatus:ITEM:PERCENT:TEXT`).
fn downloaded(line: &str) -> Option<f64> {
    line.strip_prefix("dlstatus:")?.split(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_has_its_epoch_back() {
        let text = "Reading package lists...\n\
            'http://m.example/git_2.47.3_amd64.deb' git_1%3a2.47.3-0+deb13u1_amd64.deb 8862 SHA256:ab12\n\
            'http://m.example/libc6.deb' libc6_2.41-12_amd64.deb 99 MD5Sum:5559\n";
        let found = candidates(text);
        assert_eq!(found[0].name, "git");
        assert_eq!(found[0].version, "1:2.47.3-0+deb13u1");
        assert_eq!((found[0].size, found[0].sha256.as_str()), (8862, "ab12"));
        assert_eq!(found[1].sha256, "");
    }

    #[test]
    fn the_reason_is_what_apt_marks_as_an_error() {
        assert_eq!(
            reason("W: old\nE: Unable to locate package xyz\nE: No packages\n"),
            "Unable to locate package xyz; No packages"
        );
        assert_eq!(reason("odd\n"), "odd");
    }

    #[test]
    fn a_status_line_tells_the_percentage() {
        assert_eq!(downloaded("dlstatus:1:42.5:Retrieving file 1 of 2"), Some(42.5));
        assert_eq!(downloaded("Get:1 http://m.example trixie/main"), None);
    }
}
