//! Which QEMU will do.

use std::fmt;
use std::io;
use std::process::{Command, Output, Stdio};

use crate::platform::HAS_VHOST_USER;

/// QEMU's version, as it prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// QEMU 7.2 double-faults in `cmpxchg16b` and breaks programs with two TCG threads; 10 is the oldest that was seen
/// to run our kernel well.
const OLDEST_MAJOR: u32 = 10;

/// Why a QEMU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TcgError {
    #[error(
        "the engine tcg needs a Linux host, where QEMU can be served devices over vhost-user; run mvm on one"
    )]
    Host,
    #[error("no QEMU program is named; pass one, or install the package qemu-system-x86")]
    NoCommand,
    #[error("cannot run {program}; install the package qemu-system-x86 (QEMU 10 or later)")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} --version failed ({status}): {said}")]
    Failed { program: String, status: std::process::ExitStatus, said: String },
    #[error("{program} --version said {said:?}, which names no version; is it QEMU?")]
    NotQemu { program: String, said: String },
    #[error("{program} is QEMU {found}; mvm needs QEMU {OLDEST_MAJOR} or later")]
    TooOld { program: String, found: Version },
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Runs `command --version` and says whether this QEMU will do. `command` is the program and what has to stand
/// before its options, as in [`crate::control::Engine::Tcg`].
pub fn check(command: &[String]) -> Result<Version, TcgError> {
    if !HAS_VHOST_USER {
        return Err(TcgError::Host);
    }
    let (program, before) = command.split_first().ok_or(TcgError::NoCommand)?;
    let output = Command::new(program)
        .args(before)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| TcgError::Spawn { program: program.clone(), source })?;
    judge(program, &output)
}

fn judge(program: &str, output: &Output) -> Result<Version, TcgError> {
    let program = program.to_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(TcgError::Failed { program, status: output.status, said });
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(found) = parse(&said) else {
        let said = said.lines().next().unwrap_or_default().chars().take(200).collect();
        return Err(TcgError::NotQemu { program, said });
    };
    if found.major < OLDEST_MAJOR {
        return Err(TcgError::TooOld { program, found });
    }
    Ok(found)
}

/// Reads "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)".
pub(crate) fn parse(said: &str) -> Option<Version> {
    let (_, rest) = said.split_once("QEMU emulator version ")?;
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().unwrap_or("0").parse().ok()?;
    let patch = parts.next().unwrap_or("0").parse().ok()?;
    Some(Version { major, minor, patch })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    // Without a process: vmm/tests/process.rs says why none is started beside the code.
    fn judge_words(status: i32, stdout: &str, stderr: &str) -> Result<Version, String> {
        let status = ExitStatus::from_raw(status << 8);
        let output = Output { status, stdout: stdout.into(), stderr: stderr.into() };
        judge("/bin/qemu", &output).map_err(|error| error.to_string())
    }

    #[test]
    fn debians_version_line_is_read() {
        let said = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright";
        assert_eq!(parse(said), Some(Version { major: 10, minor: 0, patch: 2 }));
        assert_eq!(
            parse("QEMU emulator version 11.1-rc2\n"),
            Some(Version { major: 11, minor: 1, patch: 0 })
        );
        assert_eq!(parse("bash 5.2"), None);
    }

    #[test]
    fn a_new_enough_qemu_passes() {
        let found = judge_words(0, "QEMU emulator version 10.0.0\n", "");
        assert_eq!(found, Ok(Version { major: 10, minor: 0, patch: 0 }));
    }

    #[test]
    fn what_will_not_do_says_why() {
        let refused = |status, stdout, stderr| judge_words(status, stdout, stderr).unwrap_err();
        assert_eq!(
            refused(0, "QEMU emulator version 7.2.9 (Debian)\n", ""),
            "/bin/qemu is QEMU 7.2.9; mvm needs QEMU 10 or later"
        );
        assert_eq!(
            refused(0, "hello\nworld\n", ""),
            "/bin/qemu --version said \"hello\", which names no version; is it QEMU?"
        );
        assert_eq!(
            refused(1, "", "no such library\n"),
            "/bin/qemu --version failed (exit status: 1): no such library"
        );
    }
}
