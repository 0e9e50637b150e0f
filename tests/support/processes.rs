//! The processes of one instance, found by what no other instance has: its directory in their environment or arguments,
//! or the session that its supervisor began.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Finds the processes of the instance below one directory.
#[derive(Debug)]
pub struct Processes {
    home: PathBuf,
    sessions: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    pub arguments: Vec<String>,
    session: u32,
}

impl Processes {
    pub fn of(home: &Path) -> Self {
        let mut processes = Self { home: home.to_owned(), sessions: Vec::new() };
        processes.sessions = processes.all().iter().map(|process| process.session).collect();
        processes.sessions.retain(|session| *session != own_session());
        processes
    }

    /// All that run now, zombies left out.
    pub fn all(&self) -> Vec<Process> {
        let pids = fs::read_dir("/proc").expect("/proc is there").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id()).filter_map(|pid| self.process(pid)).collect()
    }

    /// The one that has this word as an argument, or a program whose file name begins with it.
    #[track_caller]
    pub fn with_argument(&self, word: &str) -> Process {
        let all = self.all();
        let found = all.iter().find(|process| process.has(word));
        found.unwrap_or_else(|| panic!("no process with \"{word}\" among {all:#?}")).clone()
    }

    /// Fails unless all are gone soon.
    #[track_caller]
    pub fn expect_none(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let left = self.all();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still running: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let (state, session) = state_and_session(&String::from_utf8_lossy(&read("stat")?))?;
        let arguments = String::from_utf8_lossy(&read("cmdline")?).into_owned();
        let environment = String::from_utf8_lossy(&read("environ").unwrap_or_default()).into_owned();
        let home = self.home.to_str()?;
        let ours = arguments.contains(home) || environment.contains(home) || self.sessions.contains(&session);
        // What tidies up after the test is no part of the instance.
        let keeper = arguments.contains("keeper-of-");
        let arguments = arguments.split_terminator('\0').map(str::to_owned).collect();
        (ours && !keeper && state != 'Z').then_some(Process { pid, arguments, session })
    }
}

impl Process {
    /// Whether it has this word as an argument, or a program whose file name begins with it: a program may be started
    /// through its own dynamic linker.
    pub fn has(&self, word: &str) -> bool {
        let is_program =
            |argument: &str| argument.rsplit_once('/').is_some_and(|(_, file)| file.starts_with(word));
        self.arguments.iter().any(|argument| argument == word || is_program(argument))
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Sends it a signal by its name, as `kill -s` takes it.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args(["-s", name, &self.pid.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send {name} to {self:?}");
    }
}

/// A machine's anonymous memory that is not its guest's, in KiB: no other mapping is as large as the guest's. Zero once it
/// has ended.
pub fn anonymous_beside(pid: u32, guest_kib: u64) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut own, mut is_guests) = (0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (name, number) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()));
        match (name, number) {
            (Some("Size:"), Some(size)) => is_guests = size >= guest_kib,
            (Some("Anonymous:"), Some(size)) if !is_guests => own += size,
            _ => {}
        }
    }
    own
}

/// Zero when its leader is outside of our PID namespace, which is why `getsid` of a library that rules zero out will not
/// do.
fn own_session() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc is there");
    state_and_session(&stat).expect("the kernel writes it as proc(5) says").1
}

/// From "pid (comm) state ppid pgrp session ..." (proc(5)); comm may hold anything.
fn state_and_session(stat: &str) -> Option<(char, u32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(2)?.parse().ok()?))
}
