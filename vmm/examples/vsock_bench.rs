//! Boots a kernel with `vsock_guest` as its init through [`vmm::process::run`], checks the vsock path and measures it.
//!
//! `vsock_bench KERNEL GUEST-PROGRAM [QEMU...]` runs it on KVM, or on the QEMU that is named, and prints one JSON object a
//! line, `{"name", "unit", "value"}`. `MVM_BENCH_MIB` sets how much is moved each way (256), `MVM_BENCH_CPUS` how many
//! processors the guest has (2). The guest program has to be static:
//! `cargo rustc --release -p vmm --example vsock_guest -- -C target-feature=+crt-static`.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::indexing_slicing)]

#[path = "vsock/marks.rs"]
mod marks;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use vmm::control::{Channel, ChannelReader, Engine, FromMachine, MachineConfig, Outcome, ToMachine};

const MIB: u64 = 1024 * 1024;

/// The word by which this program is the process of the machine: its control channel is standard input then.
const MACHINE: &str = "machine";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == [MACHINE] {
        let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
        vmm::process::run(Channel::from_descriptor(channel)?)?;
        return Ok(());
    }
    let [kernel, guest, qemu @ ..] = arguments.as_slice() else {
        bail!("usage: vsock_bench KERNEL GUEST-PROGRAM [QEMU...]");
    };
    let directory = tempfile::tempdir()?;
    let config = machine(directory.path(), kernel, guest, qemu)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut machine = Command::new(std::env::current_exe()?)
        .arg(MACHINE)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let (channel, mut reader) = Channel::new(ours)?;

    let started = Instant::now();
    // A network that nobody is on: the device has to come up all the same.
    let (network, _nobody) = UnixStream::pair()?;
    channel.send(&ToMachine::Start(config), Some(network.as_fd()))?;
    drop(network);
    // Given before the kernel has begun: the connection has to wait for the guest.
    let mut first = connect(&channel, 1000, &[])?;
    ensure!(matches!(next(&mut reader)?, FromMachine::Started { .. }), "the machine did not start");
    first.write_all(b"x")?;
    first.read_exact(&mut [0])?;
    report("first-answer", "ms", started.elapsed().as_secs_f64() * 1e3);

    round_trips(&mut first)?;
    let total = number("MVM_BENCH_MIB").unwrap_or(256) * MIB;
    to_guest(&channel, total)?;
    to_host(&channel, total)?;
    both_ways(&channel, total)?;
    many(&channel, directory.path())?;
    dialed(&channel, &mut reader)?;
    refused(&channel, &mut reader)?;
    report("machine-memory", "KiB", resident(machine.id())? as f64);

    let off = connect(&channel, 1004, &[])?;
    let ended = next(&mut reader)?;
    ensure!(ended == FromMachine::Ended(Outcome::PoweredOff), "the machine ended with {ended:?}");
    drop(off);
    let status = machine.wait()?;
    ensure!(status.success(), "the machine's process ended with {status}");
    Ok(())
}

/// What the environment says.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn machine(directory: &Path, kernel: &str, guest: &str, qemu: &[String]) -> Result<MachineConfig> {
    let initrd = directory.join("initrd");
    std::fs::write(&initrd, archive(&std::fs::read(guest).context("cannot read the guest program")?))?;
    for disk in ["root", "data"] {
        std::fs::File::create(directory.join(disk))?.set_len(MIB)?;
    }
    let engine = if qemu.is_empty() { Engine::Kvm } else { Engine::Tcg { command: qemu.to_vec() } };
    Ok(MachineConfig {
        engine,
        cpus: number("MVM_BENCH_CPUS").map_or(2, |cpus| cpus as u8),
        memory_mib: 512,
        kernel: kernel.into(),
        initrd: Some(initrd),
        cmdline: "quiet console=hvc0 panic=-1".to_owned(),
        root: directory.join("root"),
        data: directory.join("data"),
        console: std::env::var_os("MVM_BENCH_CONSOLE").map_or(directory.join("console"), Into::into),
    })
}

/// An initramfs with one file, `/init` (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut entry = |name: &str, mode: u32, number: (u32, u32), data: &[u8]| {
        let (major, minor) = number;
        let fields = [1, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, major, minor, name.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    entry("dev", 0o040_755, (0, 0), &[]);
    entry("dev/console", 0o020_600, (5, 1), &[]);
    entry("init", 0o100_755, (0, 0), init);
    entry("TRAILER!!!", 0, (0, 0), &[]);
    archive
}

fn connect(channel: &Channel, guest_port: u32, preamble: &[u8]) -> Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let message = ToMachine::Connect { guest_port, preamble: preamble.to_vec() };
    channel.send(&message, Some(theirs.as_fd()))?;
    Ok(ours)
}

fn next(reader: &mut ChannelReader) -> Result<FromMachine> {
    let (message, _) = reader.receive()?.context("the machine process closed the channel")?;
    Ok(message)
}

fn round_trips(stream: &mut UnixStream) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..2000 {
        let started = Instant::now();
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    report("vsock-rtt", "us", times[times.len() / 2].as_secs_f64() * 1e6);
    Ok(())
}

fn to_guest(channel: &Channel, total: u64) -> Result<()> {
    let mut stream = connect(channel, 1001, &[])?;
    let started = Instant::now();
    let mut buffer = vec![7; 256 * 1024];
    for position in (0..total).step_by(buffer.len()) {
        marks::fill(&mut buffer, position);
        stream.write_all(&buffer)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut counted = [0; 8];
    stream.read_exact(&mut counted)?;
    ensure!(u64::from_le_bytes(counted) == total, "the guest counted {}", u64::from_le_bytes(counted));
    report("vsock-to-guest", "MiB/s", rate(total, started.elapsed()));
    Ok(())
}

fn to_host(channel: &Channel, total: u64) -> Result<()> {
    // The count travels as the preamble: it has to arrive before the (empty) stream.
    let mut stream = connect(channel, 1002, &total.to_le_bytes())?;
    let started = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    let mut checked = marks::Checked::default();
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            count => checked.take(&buffer[..count])?,
        }
    }
    ensure!(checked.position == total, "{} of {total} bytes came", checked.position);
    report("vsock-to-host", "MiB/s", rate(total, started.elapsed()));
    Ok(())
}

/// Random data through the echo, both ways at once, with half-close, compared by hash.
fn both_ways(channel: &Channel, total: u64) -> Result<()> {
    let started = Instant::now();
    exchange(connect(channel, 1000, &[])?, total, 1)?;
    report("vsock-both-ways", "MiB/s", rate(total, started.elapsed()));
    Ok(())
}

fn exchange(stream: UnixStream, total: u64, seed: u64) -> Result<()> {
    let mut reading = stream.try_clone()?;
    let sender = thread::spawn(move || -> Result<[u8; 32]> {
        let mut stream = stream;
        let mut hash = Sha256::new();
        let mut state = seed;
        let mut buffer = vec![0; 64 * 1024];
        let mut rest = total;
        while rest > 0 {
            for bytes in buffer.chunks_exact_mut(8) {
                // xorshift64 (Marsaglia, 2003)
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.copy_from_slice(&state.to_le_bytes());
            }
            let count = rest.min(buffer.len() as u64) as usize;
            hash.update(&buffer[..count]);
            stream.write_all(&buffer[..count])?;
            rest -= count as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        Ok(hash.finalize().into())
    });
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut counted = 0;
    loop {
        match reading.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                counted += count as u64;
            }
        }
    }
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let received: [u8; 32] = hash.finalize().into();
    ensure!(counted == total, "{counted} of {total} bytes came back");
    ensure!(sent == received, "what came back is not what was sent");
    Ok(())
}

/// As clients do it: through a listening socket.
fn many(channel: &Channel, directory: &Path) -> Result<()> {
    let path = directory.join("echo.sock");
    let listener = UnixListener::bind(&path)?;
    channel.send(&ToMachine::Listen { guest_port: 1000 }, Some(listener.as_fd()))?;
    drop(listener);
    let started = Instant::now();
    let streams = (0..100).map(|_| UnixStream::connect(&path)).collect::<std::io::Result<Vec<_>>>()?;
    let threads: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(seed, stream)| thread::spawn(move || exchange(stream, MIB, seed as u64 + 2)))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a connection panicked"))??;
    }
    report("vsock-100-parallel", "ms", started.elapsed().as_secs_f64() * 1e3);
    channel.send(&ToMachine::Unlisten { guest_port: 1000 }, None)?;
    Ok(())
}

fn dialed(channel: &Channel, reader: &mut ChannelReader) -> Result<()> {
    let guest = connect(channel, 1003, &65_616_u64.to_le_bytes())?;
    let FromMachine::Dial { id, port } = next(reader)? else { bail!("no dial") };
    ensure!(port == 65_616, "the guest dialed {port}");
    let (ours, theirs) = UnixStream::pair()?;
    channel.send(&ToMachine::Dialed { id }, Some(theirs.as_fd()))?;
    drop(theirs);
    let echo = thread::spawn(move || std::io::copy(&mut &ours, &mut &ours).map(|_| ()));
    exchange(guest, MIB, 99)?;
    echo.join().map_err(|_| anyhow::anyhow!("the host's echo panicked"))??;
    Ok(())
}

fn refused(channel: &Channel, reader: &mut ChannelReader) -> Result<()> {
    let mut guest = connect(channel, 1003, &22_u64.to_le_bytes())?;
    let FromMachine::Dial { id, .. } = next(reader)? else { bail!("no dial") };
    channel.send(&ToMachine::Refused { id }, None)?;
    ensure!(guest.read(&mut [0])? == 0, "a refused connection carried data");
    Ok(())
}

fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / MIB as f64 / elapsed.as_secs_f64()
}

fn report(name: &str, unit: &str, value: f64) {
    println!("{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"value\":{value:.1}}}");
}

/// The resident memory of this process that is not the guest's, in KiB.
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon")).context("no RssAnon")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}
