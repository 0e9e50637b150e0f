//! Programs that a test runs: with a deadline, and with their whole output in the message of a failure.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Everything that a test runs ends within this, on a slow machine too; the longest is to make a kernel.
const DEADLINE: Duration = Duration::from_secs(3600);

/// A program that has ended.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    /// 128 and the signal for one that a signal ended.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Its stdout, if it went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self}");
        self.stdout
    }

    /// Fails unless it ended with this status and said this on stderr.
    #[track_caller]
    pub fn refused(&self, status: i32, message: &str) {
        assert_eq!(self.status, status, "{self}");
        assert!(self.stderr.contains(message), "expected \"{message}\" from {self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// A program that still runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    output: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    /// Sends it a signal by its name, as `kill -s` takes it.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send {name} to {}", self.command);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        let deadline = Instant::now() + DEADLINE;
        let (status, in_time) = loop {
            match self.child.try_wait().expect("the child can be waited for") {
                Some(status) => break (status, true),
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                None => {
                    let _ = self.child.kill();
                    break (self.child.wait().expect("the child can be waited for"), false);
                }
            }
        };
        let (stdout, stderr) = self.output.take().expect("the output is taken once");
        let outcome = Outcome {
            command: self.command.clone(),
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: stdout.join().expect("stdout was read"),
            stderr: stderr.join().expect("stderr was read"),
        };
        assert!(in_time, "not done after {} s: {outcome}", DEADLINE.as_secs());
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command behind the words of another program, which runs it.
pub fn behind(words: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    start(command).outcome()
}

/// Runs a program to its end, and lets it read this.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Outcome {
    let mut running = start_with(command, Stdio::piped());
    let mut stdin = running.child.stdin.take().expect("stdin is a pipe");
    let input = input.to_vec();
    // One that ends without reading it all is no failure of ours.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let outcome = running.outcome();
    writer.join().expect("the input was written");
    outcome
}

/// Starts a program with its output caught and its stdin closed.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    start_with(command, Stdio::null())
}

#[track_caller]
fn start_with(command: &mut Command, stdin: Stdio) -> Running {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let stdout = child.stdout.take().map(collect).expect("stdout is a pipe");
    let stderr = child.stderr.take().map(collect).expect("stderr is a pipe");
    Running { child, command: shown, output: Some((stdout, stderr)) }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
