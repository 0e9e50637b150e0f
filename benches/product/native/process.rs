//! A VMM while it runs: what its guest says and when, and what it costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::anonymous_beside;

/// Ends with the value.
#[derive(Debug)]
pub(super) struct Vmm {
    child: Child,
    console: BufReader<ChildStdout>,
    heard: String,
    pub(super) started: Instant,
}

impl Vmm {
    pub(super) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let console = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self { child, console, heard: String::new(), started }
    }

    /// When the guest said this.
    pub(super) fn hears(&mut self, word: &str) -> Instant {
        let expected = format!("rig: {word}");
        loop {
            let mut line = String::new();
            let count = self.console.read_line(&mut line).expect("the console is UTF-8");
            let now = Instant::now();
            assert!(count > 0, "the guest ended, and did not say \"{word}\": {}", self.heard);
            if line.trim_end() == expected {
                return now;
            }
            self.heard.push_str(&line);
        }
    }

    /// To the end of a guest that powers off.
    pub(super) fn finish(mut self) {
        let status = self.child.wait().expect("the VMM can be waited for");
        assert!(status.success(), "the VMM ended with {status}: {}", self.heard);
    }

    /// The processor time of all its threads, its guest's share included.
    pub(super) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the VMM's threads");
        let time = |task: fs::DirEntry| -> Option<u64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(tasks.flatten().filter_map(time).sum())
    }

    /// Anonymous memory that is not the guest's, in MiB.
    pub(super) fn own_memory(&self) -> f64 {
        let own = anonymous_beside(self.child.id(), super::guest::MEMORY_MIB * 1024);
        assert!(own > 0, "the VMM has ended");
        own as f64 / 1024.0
    }

    /// Anonymous memory altogether, in MiB.
    pub(super) fn memory(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the VMM's status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line RssAnon");
        number(line.split_whitespace().next()) as f64 / 1024.0
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(word: Option<&str>) -> u64 {
    word.and_then(|word| word.parse().ok()).expect("a number of KiB")
}
