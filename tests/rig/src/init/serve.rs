//! L1: loads KVM, and runs what the host sends, one job after the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rig::frame::Frame;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Signal, WaitOptions};

use crate::{Outcome, system};

/// The port's name without udev: the first of the first virtio-serial device.
const PORT: &str = "/dev/vport0p1";
/// L1's own address, and one at which nobody is.
const ADDRESS: &str = "192.168.7.2";
const GATEWAY: &str = "192.168.7.1";
/// Where a job leaves what the host shall have.
const OUT: &str = "/out";

pub(crate) fn serve() -> Outcome<()> {
    system::leave_ramdisk()?;
    load_modules()?;
    system::busybox(&["--install", "-s", "/bin"])?;
    set_network_up()?;
    for at in ["/run", "/tmp", "/dev/shm", OUT] {
        system::mount_new("tmpfs", at)?;
    }
    if !Path::new("/dev/kvm").exists() {
        return Err("there is no /dev/kvm".into());
    }
    let port = OpenOptions::new().read(true).write(true).open(appeared(PORT)?)?;
    let sender = Mutex::new(port.try_clone()?);
    let jobs = jobs(port);
    send(&sender, &Frame::Ready)?;
    for words in jobs {
        let words = words?;
        let status = run(&words, &sender)?;
        give_files(&sender)?;
        for at in ["/tmp", OUT] {
            unmount(at, UnmountFlags::DETACH)?;
            system::mount_new("tmpfs", at)?;
        }
        send(&sender, &Frame::Ended(status))?;
    }
    Err("the host is gone".into())
}

/// What the host wants done. It is read while a job runs too: pulses come then.
fn jobs(port: File) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, jobs) = mpsc::channel();
    thread::spawn(move || {
        while let Some(frame) = Frame::read(&port).transpose() {
            let job = match frame {
                Ok(Frame::Pulse) => continue,
                Ok(Frame::Run(words)) => Ok(words),
                Ok(other) => Err(io::Error::other(format!("{other:?} is no job"))),
                Err(error) => Err(error),
            };
            let is_last = job.is_err();
            if sender.send(job).is_err() || is_last {
                return;
            }
        }
    });
    jobs
}

/// A network that leads nowhere: passt wants an address and a default route, and what listens on the address can be reached
/// by guests.
fn set_network_up() -> Outcome<()> {
    system::busybox(&["ip", "link", "set", "lo", "up"])?;
    fs::create_dir_all("/dev/net")?;
    if !Path::new("/dev/net/tun").exists() {
        system::busybox(&["mknod", "/dev/net/tun", "c", "10", "200"])?;
    }
    system::busybox(&["tunctl", "-t", "tap0"])?;
    system::busybox(&["ifconfig", "tap0", ADDRESS, "netmask", "255.255.255.0", "up"])?;
    system::busybox(&["route", "add", "default", "gw", GATEWAY])?;
    // passt gives up its privileges for those of nobody.
    fs::create_dir_all("/etc")?;
    fs::write("/etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
    fs::write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    fs::write("/etc/resolv.conf", format!("nameserver {GATEWAY}\n"))?;
    Ok(())
}

fn load_modules() -> Outcome<()> {
    for name in fs::read_to_string("/modules/order")?.lines() {
        let module = File::open(format!("/modules/{name}"))?;
        rustix::system::finit_module(&module, c"", 0)
            .map_err(|error| format!("cannot load {name}: {error}"))?;
    }
    Ok(())
}

/// The driver finds its device while we run.
fn appeared(path: &str) -> Outcome<&str> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !Path::new(path).exists() {
        if Instant::now() > deadline {
            return Err(format!("{path} has not appeared").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(path)
}

/// Runs a command to its end, and whatever it left behind to the end of that.
fn run(words: &[u8], sender: &Mutex<File>) -> Outcome<u8> {
    let words = String::from_utf8_lossy(words);
    let mut words = words.split('\0');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env("PATH", "/bin").env("HOME", "/tmp").current_dir("/tmp");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let told = format!("cannot start {:?}: {error}\n", command.get_program());
            send(sender, &Frame::Stderr(told.into_bytes()))?;
            return Ok(127);
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, Frame::Stdout, sender));
        scope.spawn(|| pass_on(stderr, Frame::Stderr, sender));
        let status = child.wait();
        // The pipes end when nobody holds them any more.
        end_all_others();
        status
    })?;
    Ok(code(status))
}

fn pass_on(from: Option<impl Read>, frame: impl Fn(Vec<u8>) -> Frame, sender: &Mutex<File>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if send(sender, &frame(buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn send(sender: &Mutex<File>, frame: &Frame) -> io::Result<()> {
    let port = sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    frame.write(&*port)
}

fn end_all_others() {
    // SAFETY: kill takes no memory. From PID 1, -1 is every process but this one.
    unsafe { libc::kill(-1, Signal::KILL.as_raw()) };
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn give_files(sender: &Mutex<File>) -> Outcome<()> {
    for entry in fs::read_dir(OUT)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let mut file = entry.file_name().into_encoded_bytes();
            file.push(0);
            file.extend(fs::read(entry.path())?);
            send(sender, &Frame::File(file))?;
        }
    }
    Ok(())
}
