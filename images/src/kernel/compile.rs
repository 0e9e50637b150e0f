//! Configures and compiles.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::{KernelError, io_error, options};
use crate::progress::{Progress, Stage, Unit};
use crate::recipe::VMLINUX;
use crate::tools::Tool;
use crate::tools::isolated;

/// About how many files our configuration compiles.
const FILES: u64 = 1_400;
/// How many lines of its log a failed build shows.
const LAST_LINES: usize = 15;
/// How many of its complaints: with several jobs at once the last lines are seldom the ones that tell.
const COMPLAINTS: usize = 10;

/// One compilation in `work/linux`.
pub(super) struct Build<'a> {
    pub(super) toolchain: &'a Tool,
    pub(super) work: &'a Path,
    pub(super) log: &'a Path,
    pub(super) fragment: &'a str,
    /// The file of `linux` that is made.
    pub(super) image: &'a str,
    pub(super) progress: &'a dyn Progress,
}

impl Build<'_> {
    /// Returns the kernel's image, in the working directory; a `vmlinux` is stripped.
    pub(super) fn run(&self) -> Result<PathBuf, KernelError> {
        let fragment = self.work.join("fragment");
        fs::write(&fragment, self.fragment).map_err(|source| io_error("write", &fragment, source))?;
        fs::write(self.log, "").map_err(|source| io_error("write", self.log, source))?;
        Stage::run(self.progress, "kernel: configure", || {
            self.make("allnoconfig", &["KCONFIG_ALLCONFIG=/build/fragment"], &mut |_| {})?;
            self.check_options()
        })?;
        let stage = Stage::start(self.progress, "kernel: compile", Some(FILES), Unit::Files);
        let mut compiled = 0_u64;
        let target = self.image.rsplit('/').next().unwrap_or(VMLINUX);
        self.make(target, &[], &mut |line| {
            if is_compilation(line) {
                compiled = compiled.saturating_add(1);
                stage.advance(compiled);
            }
        })?;
        stage.say(&format!("kernel: compiled {compiled} files"));
        stage.end();
        if self.image != VMLINUX {
            return Ok(self.work.join("linux").join(self.image));
        }
        // The machine loads segments; nobody reads the symbols of a kernel that is never debugged from outside.
        self.inside("strip", &["strip", "--strip-all", "-o", "vmlinux", "linux/vmlinux"], &mut |_| {})?;
        Ok(self.work.join(VMLINUX))
    }

    fn check_options(&self) -> Result<(), KernelError> {
        let path = self.work.join("linux/.config");
        let result = fs::read_to_string(&path).map_err(|source| io_error("read", &path, source))?;
        let options = options::not_taken(self.fragment, &result);
        if options.is_empty() {
            return Ok(());
        }
        Err(KernelError::Options { options, log: self.log.to_owned() })
    }

    /// Who built it, where and when are part of the kernel: they are always the same.
    fn make(&self, target: &str, more: &[&str], line: &mut dyn FnMut(&str)) -> Result<(), KernelError> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = format!("-j{jobs}");
        let mut command = vec![
            "make",
            "-C",
            "linux",
            &jobs,
            "KBUILD_BUILD_USER=mvm",
            "KBUILD_BUILD_HOST=mvm",
            "KBUILD_BUILD_TIMESTAMP=2024-01-01 00:00:00 UTC",
            "KBUILD_BUILD_VERSION=1",
        ];
        command.extend_from_slice(more);
        command.push(target);
        self.inside(target, &command, line)
    }

    fn inside(&self, target: &str, command: &[&str], line: &mut dyn FnMut(&str)) -> Result<(), KernelError> {
        let mut inside = isolated::command(&self.toolchain.root, self.work, "/bin/sh");
        inside.args(["-c", "cd /build && exec \"$@\" 2>&1", "sh"]).args(command);
        let mut last = LastWords::default();
        if self.run_logged(&mut inside, line, &mut last)?.success() {
            return Ok(());
        }
        let last_lines = last.into_text();
        Err(KernelError::Make { target: target.to_owned(), log: self.log.to_owned(), last_lines })
    }

    /// However that ends, the command has ended too: what follows may remove the directory that it works in.
    fn run_logged(
        &self,
        command: &mut Command,
        line: &mut dyn FnMut(&str),
        last: &mut LastWords,
    ) -> Result<ExitStatus, KernelError> {
        let failed = |source| io_error("run", &self.toolchain.root, source);
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let logged = child.stdout.take().map_or(Ok(()), |stdout| self.log_lines(stdout, line, last));
        if logged.is_err() {
            // It may have ended already.
            let _ = child.kill();
        }
        let status = child.wait().map_err(failed)?;
        logged.map_err(|source| io_error("write", self.log, source))?;
        Ok(status)
    }

    fn log_lines(
        &self,
        output: impl io::Read,
        each: &mut dyn FnMut(&str),
        last: &mut LastWords,
    ) -> io::Result<()> {
        let mut log = File::options().append(true).open(self.log)?;
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(log, "{line}")?;
            each(&line);
            last.hear(line);
        }
        Ok(())
    }
}

/// What of a log explains a failure.
#[derive(Default)]
struct LastWords {
    complaints: Vec<String>,
    last: VecDeque<String>,
}

impl LastWords {
    fn hear(&mut self, line: String) {
        let complains = line.contains("error:") || line.contains("not found") || line.contains("*** [");
        if complains && self.complaints.len() < COMPLAINTS {
            self.complaints.push(line);
            return;
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn into_text(self) -> String {
        let lines = if self.complaints.is_empty() { self.last.into() } else { self.complaints };
        lines.join("\n")
    }
}

/// A line such as `  CC      kernel/fork.o`.
fn is_compilation(line: &str) -> bool {
    let mut words = line.split_whitespace();
    matches!(words.next(), Some("CC" | "AS")) && words.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_come_before_last_lines() {
        let mut last = LastWords::default();
        for line in ["CC a.o", "/bin/sh: 1: gzip: not found", "CC b.o"] {
            last.hear(line.to_owned());
        }
        assert_eq!(last.into_text(), "/bin/sh: 1: gzip: not found");
    }

    #[test]
    fn a_log_on_a_full_disk_ends_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let toolchain = Tool { command: Vec::new(), root: dir.path().to_owned() };
        let build = Build {
            toolchain: &toolchain,
            work: dir.path(),
            log: Path::new("/dev/full"),
            fragment: "",
            image: VMLINUX,
            progress: &crate::progress::Silent,
        };
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$1\"; echo a line; exec sleep 600", "sh"]).arg(&pid);
        let error = build.run_logged(&mut command, &mut |_| {}, &mut LastWords::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full");
        let pid = fs::read_to_string(pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "the command goes on");
    }

    #[test]
    fn only_compilations_count() {
        assert!(is_compilation("  CC      kernel/fork.o"));
        assert!(is_compilation("  AS      arch/x86/entry/entry_64.o"));
        assert!(!is_compilation("  AR      kernel/built-in.a"));
        assert!(!is_compilation("  HOSTCC  scripts/kallsyms"));
    }
}
