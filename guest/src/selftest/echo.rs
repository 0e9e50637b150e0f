//! One program that has to repeat what it is told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::process::{Children, Exit, Piped};

/// An emulator on an emulated and busy machine takes seconds to start.
const DEADLINE: Duration = Duration::from_secs(120);
const NONCE: usize = 16;

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the appliance has no binfmt step, so it has no test program for it")]
    NoStep,
    #[error("the appliance has no test program for it")]
    NoProgram,
    #[error("no program is registered for it: exec format error")]
    NotRegistered,
    #[error("its test program cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("its test program could not be spoken to: {0}")]
    Talk(#[from] io::Error),
    #[error("its test program ended before it answered: {0}")]
    Died(Exit),
    #[error("its test program answered something else than it was told")]
    Wrong,
    #[error("its test program ended with {0} instead of exit status 0")]
    Ended(Exit),
    #[error("its test program did not answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
    #[error("init lost sight of its test program")]
    Lost,
}

impl Error {
    /// Whether it may be the machine's load, and not the platform: the next test may end otherwise.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Deadline)
    }
}

/// Runs the program and returns which file the kernel executed: the program itself, or its emulator.
pub(super) async fn run(children: &Children, program: &Path) -> Result<PathBuf, Error> {
    if !program.is_file() {
        return Err(Error::NoProgram);
    }
    let mut piped = Piped::start(children, program, &[]).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOEXEC) => Error::NotRegistered,
        _ => Error::Start(error),
    })?;
    timeout(DEADLINE, converse(&mut piped)).await.unwrap_or(Err(Error::Deadline))
}

async fn converse(piped: &mut Piped) -> Result<PathBuf, Error> {
    let mut nonce = [0; NONCE];
    getrandom(&mut nonce[..], GetRandomFlags::empty()).map_err(io::Error::from)?;
    let mut answer = [0; NONCE];
    match echo(piped, &nonce, &mut answer).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
            return Err(Error::Died(piped.wait().await.ok_or(Error::Lost)?));
        }
        result => result?,
    }
    if answer != nonce {
        return Err(Error::Wrong);
    }
    let executor = std::fs::read_link(format!("/proc/{}/exe", piped.pid))?;
    piped.stdin = None;
    match piped.wait().await {
        Some(exit) if exit.success() => Ok(executor),
        Some(exit) => Err(Error::Ended(exit)),
        None => Err(Error::Lost),
    }
}

async fn echo(piped: &mut Piped, nonce: &[u8], answer: &mut [u8]) -> io::Result<()> {
    if let Some(stdin) = &mut piped.stdin {
        stdin.write_all(nonce).await?;
    }
    piped.stdout.read_exact(answer).await.map(|_| ())
}

/// What `EMULATOR --version` says, or nothing if it does not.
pub(super) async fn version(children: &Children, emulator: &Path) -> String {
    let Ok(mut piped) = Piped::start(children, emulator, &["--version"]) else { return String::new() };
    let mut text = Vec::new();
    let read = async {
        let length = (&mut piped.stdout).take(4096).read_to_end(&mut text).await;
        piped.wait().await;
        length
    };
    match timeout(DEADLINE, read).await {
        Ok(Ok(_)) => parse_version(&String::from_utf8_lossy(&text)),
        _ => String::new(),
    }
}

/// "qemu-arm version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)" says 10.0.13.
fn parse_version(text: &str) -> String {
    let mut words = text.split_ascii_whitespace().skip_while(|word| *word != "version").skip(1);
    words.next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reaper_of_a_test;

    #[tokio::test]
    async fn real_programs_pass_or_fail_with_a_sentence() {
        let (children, _turn) = reaper_of_a_test().await;
        let text = |error: Error| error.to_string();

        let cat = std::fs::canonicalize("/bin/cat").unwrap();
        assert_eq!(run(&children, &cat).await.unwrap(), cat);

        let error = run(&children, Path::new("/bin/true")).await.unwrap_err();
        assert_eq!(text(error), "its test program ended before it answered: exit status 0");

        let error = run(&children, Path::new("/nonexistent")).await.unwrap_err();
        assert_eq!(text(error), "the appliance has no test program for it");

        let directory = tempfile::tempdir().unwrap();
        let foreign = directory.path().join("foreign");
        std::fs::copy("/bin/cat", &foreign).unwrap();
        let mut bytes = std::fs::read(&foreign).unwrap();
        bytes[18..20].copy_from_slice(&0x1234u16.to_le_bytes());
        std::fs::write(&foreign, bytes).unwrap();
        let error = run(&children, &foreign).await.unwrap_err();
        assert_eq!(text(error), "no program is registered for it: exec format error");

        let liar = directory.path().join("liar");
        std::fs::write(&liar, "#!/bin/sh\necho 0123456789abcdef0123456789abcdef\ncat >/dev/null\n").unwrap();
        std::fs::set_permissions(&liar, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = run(&children, &liar).await.unwrap_err();
        assert_eq!(text(error), "its test program answered something else than it was told");

        assert!(version(&children, Path::new("/bin/bash")).await.starts_with("5."));
    }

    #[test]
    fn only_what_load_may_cause_may_pass() {
        assert!(Error::Deadline.may_pass());
        assert!(Error::Start(io::Error::from_raw_os_error(libc::EAGAIN)).may_pass());
        assert!(!Error::NotRegistered.may_pass() && !Error::Wrong.may_pass());
    }

    #[test]
    fn versions_are_found_in_what_qemu_says() {
        assert_eq!(parse_version("qemu-arm version 10.0.13 (Debian 1:10.0.13)\nCopyright"), "10.0.13");
        assert_eq!(parse_version("nothing"), "");
    }
}
