//! L1 while it runs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::frame::Frame;

/// From QEMU's start to the first word of L1's init; it takes seconds on a machine that is not busy.
const STARTED_WITHIN: Duration = Duration::from_secs(150);
/// How often L1 gets an interrupt while it works, whatever else goes on. QEMU before 10.2 loses one now and then that comes
/// while a guest is entered: `helper_vmrun` and its main loop both set bits of `interrupt_request`, and not atomically.
/// The next brings the lost one along. Without, a guest's processor that waits for another in a loop waits for ever,
/// for it was L1's timer that would have let the other run.
const PULSE: Duration = Duration::from_millis(500);

/// What L1's clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's time.
    Time { cpus: u8 },
    /// A nanosecond for each instruction that L1 and its guests execute, whatever else the host does. It has one processor.
    Instructions,
}

/// What L1 is made of.
#[derive(Debug, Clone, Copy)]
pub struct Config<'a> {
    /// QEMU 10 or later, and what has to stand before its options.
    pub qemu: &'a [String],
    pub kernel: &'a Path,
    /// Holds `rig-init` as `/init`, and what the jobs want.
    pub initramfs: &'a File,
    pub clock: Clock,
    pub memory_mib: u32,
    /// What the kernel has to know of this machine's processor, where its clock shows time.
    pub kernel_arguments: &'a str,
}

/// A command for L1.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    pub words: &'a [&'a str],
    pub within: Duration,
}

/// How a job went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// 128 and the signal for one that a signal ended.
    pub status: u8,
    /// What it left in `/out`.
    pub files: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("cannot start the machine with KVM")]
    Start(#[source] io::Error),
    #[error("{what}: not within {seconds} s; {said}")]
    Late { what: String, seconds: u64, said: Said },
    #[error("{what}: the machine with KVM ended before; {said}")]
    Gone { what: String, said: Said },
    #[error("{what}: the talk with the machine with KVM broke: {source}; {said}")]
    Protocol { what: String, source: io::Error, said: Said },
}

/// The last words of L1's kernel, and of QEMU.
#[derive(Debug)]
pub struct Said {
    kernel: String,
    qemu: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its kernel said:\n{}\nand QEMU:\n{}", self.kernel, self.qemu)
    }
}

/// A started L1. It ends with the value, and with this process however that ends.
#[derive(Debug)]
pub struct Machine {
    jobs: ChildStdin,
    clock: Clock,
    frames: Receiver<io::Result<Frame>>,
    console: File,
    errors: File,
    /// The thread that started QEMU; it ends it when this sender is gone.
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Machine {
    /// Returns when L1 takes jobs.
    pub fn start(config: &Config<'_>) -> Result<Self, MachineError> {
        let (console, errors) = (unnamed()?, unnamed()?);
        let command = command(config, &console, &errors)?;
        let (stop, stopped) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let keeper = thread::spawn(move || keep(command, &started, &stopped));
        let child = start.recv().map_err(|_| MachineError::Start(io::ErrorKind::Other.into()))?;
        let (jobs, printed) = child.map_err(MachineError::Start)?;
        let (clock, frames) = (config.clock, frames(printed));
        let mut machine =
            Self { jobs, clock, frames, console, errors, stop: Some(stop), keeper: Some(keeper) };
        let what = "the start of the machine with KVM";
        match machine.frame(what, Instant::now() + STARTED_WITHIN, STARTED_WITHIN)? {
            Frame::Ready => Ok(machine),
            other => Err(machine.broke(what, unexpected(&other))),
        }
    }

    /// Runs one command to its end; `output` gets what it prints as it comes. What it left running is killed, and its
    /// `/tmp` is emptied. After an error the machine is good for nothing.
    pub fn run(
        &mut self,
        job: Job<'_>,
        mut output: impl FnMut(Stream, &[u8]),
    ) -> Result<Report, MachineError> {
        let what = job.words.join(" ");
        let deadline = Instant::now() + job.within;
        let words = Frame::Run(job.words.join("\0").into_bytes());
        words.write(&mut self.jobs).map_err(|source| self.broke(&what, source))?;
        let mut files = Vec::new();
        loop {
            match self.frame(&what, deadline, job.within)? {
                Frame::Stdout(bytes) => output(Stream::Stdout, &bytes),
                Frame::Stderr(bytes) => output(Stream::Stderr, &bytes),
                Frame::File(file) => files.push(named(&file)),
                Frame::Ended(status) => return Ok(Report { status, files }),
                other => return Err(self.broke(&what, unexpected(&other))),
            }
        }
    }

    fn frame(&mut self, what: &str, deadline: Instant, within: Duration) -> Result<Frame, MachineError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frames.recv_timeout(left.min(PULSE)) {
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(source)) => return Err(self.broke(what, source)),
                Err(RecvTimeoutError::Timeout) if left > PULSE => self.pulse(what)?,
                Err(RecvTimeoutError::Timeout) => {
                    let (what, seconds) = (what.to_owned(), within.as_secs());
                    return Err(MachineError::Late { what, seconds, said: self.said() });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(MachineError::Gone { what: what.to_owned(), said: self.said() });
                }
            }
        }
    }

    /// Not where instructions are counted: it would come after another number of them each time.
    fn pulse(&mut self, what: &str) -> Result<(), MachineError> {
        match self.clock {
            Clock::Instructions => Ok(()),
            Clock::Time { .. } => {
                Frame::Pulse.write(&mut self.jobs).map_err(|source| self.broke(what, source))
            }
        }
    }

    fn broke(&mut self, what: &str, source: io::Error) -> MachineError {
        MachineError::Protocol { what: what.to_owned(), source, said: self.said() }
    }

    fn said(&mut self) -> Said {
        Said { kernel: tail(&mut self.console), qemu: tail(&mut self.errors) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Whoever starts a child is its parent as a thread: a test's thread may end before L1 does.
fn keep(
    mut command: Command,
    started: &Sender<io::Result<(ChildStdin, ChildStdout)>>,
    stopped: &Receiver<()>,
) {
    let take = |child: &mut Child| Some((child.stdin.take()?, child.stdout.take()?));
    match command.spawn() {
        Err(error) => drop(started.send(Err(error))),
        Ok(mut child) => {
            let _ = started.send(take(&mut child).ok_or_else(|| io::ErrorKind::BrokenPipe.into()));
            let _ = stopped.recv();
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn frames(mut printed: ChildStdout) -> Receiver<io::Result<Frame>> {
    let (sender, frames) = mpsc::channel();
    thread::spawn(move || {
        while let Some(frame) = Frame::read(&mut printed).transpose() {
            let is_last = frame.is_err();
            if sender.send(frame).is_err() || is_last {
                return;
            }
        }
    });
    frames
}

fn command(config: &Config<'_>, console: &File, errors: &File) -> Result<Command, MachineError> {
    let nothing = || MachineError::Start(io::Error::other("no QEMU was named"));
    let (program, before) = config.qemu.split_first().ok_or_else(nothing)?;
    let mut command = Command::new(program);
    command.args(before).args(arguments(config, console));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(errors.try_clone().map_err(MachineError::Start)?);
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have ended before the line above.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: nothing allocates, locks or panics.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// The board is the one that the product uses under TCG (`vmm/src/engine/tcg/arguments.rs` has the reasons), with a
/// processor that has SVM.
fn arguments(config: &Config<'_>, console: &File) -> Vec<String> {
    let (processors, kernel_arguments) = processors(config);
    // Reset in the way that the kernel chooses, the machine started anew or hung after 8 of 22 panics, in spite of -no-reboot.
    let append = format!(
        "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t mitigations=off rdinit=/init rig.do=serve {kernel_arguments}"
    );
    let kernel = config.kernel.display().to_string();
    [
        &["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"][..],
        &["-machine", "microvm,acpi=on,rtc=on,isa-serial=on", "-bios", "qboot.rom"],
        &processors.iter().map(String::as_str).collect::<Vec<_>>(),
        &["-cpu", "EPYC,+svm,+npt", "-m", &format!("{}M", config.memory_mib)],
        &["-kernel", &kernel, "-initrd", &opened(config.initramfs), "-append", &append],
        &["-serial", &format!("file:{}", opened(console))],
        &["-chardev", "stdio,id=jobs,signal=off", "-device", "virtio-serial-device"],
        &["-device", "virtserialport,chardev=jobs,name=jobs"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// How QEMU executes instructions, and what the kernel has to know of the clock that comes with it.
fn processors<'a>(config: &Config<'a>) -> (Vec<String>, &'a str) {
    let (words, kernel_arguments) = match config.clock {
        Clock::Time { cpus } => {
            (format!("-accel tcg,thread=multi,tb-size=512 -smp {cpus}"), config.kernel_arguments)
        }
        Clock::Instructions => {
            let counting = "-accel tcg,thread=single,tb-size=512 -icount shift=0,sleep=off -smp 1";
            (counting.to_owned(), "tsc=reliable tsc_early_khz=1000000")
        }
    };
    (words.split(' ').map(str::to_owned).collect(), kernel_arguments)
}

/// A name under which QEMU finds a file that has none.
fn opened(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn unnamed() -> Result<File, MachineError> {
    tempfile::tempfile().map_err(MachineError::Start)
}

fn tail(file: &mut File) -> String {
    const LINES: usize = 60;
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // What QEMU says of every processor that it was asked for more than it has.
    let is_news = |line: &&str| !line.contains("TCG doesn't support requested feature");
    let lines: Vec<&str> = text.lines().filter(is_news).collect();
    match read {
        Ok(_) => lines[lines.len().saturating_sub(LINES)..].join("\n"),
        Err(error) => error.to_string(),
    }
}

fn named(file: &[u8]) -> (String, Vec<u8>) {
    let mut parts = file.splitn(2, |byte| *byte == 0);
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    (name, parts.next().unwrap_or_default().to_vec())
}

fn unexpected(frame: &Frame) -> io::Error {
    io::Error::other(format!("it said {frame:?}"))
}
