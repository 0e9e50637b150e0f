//! Orders to machines of real guests in this process, and what is left of many of them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use vmm::devices::blk::Disk;
use vmm::devices::vsock::{Handle, Vsock};
use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Control, Watcher};
use vmm::hypervisor::Host;
use vmm::sandbox::Confinement;

use crate::support::{Parts, eventually, on_kvm};

/// For whatever a guest or a machine is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
const CID: u32 = 3;
/// Where the guest listens (tests/rig/src/init/guest/echo.rs).
const PORT: u32 = 1000;
/// How long machines are started one after the other, and the most of them.
const BOOTS_FOR: Duration = Duration::from_secs(40);

/// A machine with one of every device.
struct Machine {
    control: Control,
    console: BufReader<UnixStream>,
    vsock: Handle,
    running: JoinHandle<Outcome>,
    _disk: NamedTempFile,
    /// Nobody is on it.
    _network: UnixStream,
}

impl Machine {
    fn start(action: &str, cpus: u8) -> Self {
        let parts = Parts::here();
        let (ours, guests) = UnixStream::pair().unwrap();
        let (nobody, network) = UnixStream::pair().unwrap();
        let disk = NamedTempFile::new().unwrap();
        disk.as_file().set_len(1 << 20).unwrap();
        let (device, vsock) = Vsock::new(CID, |_| ()).unwrap();
        let config = Config {
            cpus,
            memory: 256 << 20,
            kernel: File::open(&parts.kernel).unwrap(),
            initrd: Some(File::open(&parts.initrd).unwrap()),
            command_line: format!("console=hvc0 quiet panic=-1 rdinit=/init rig.do={action}"),
            disks: vec![Disk::open(disk.path(), false).unwrap()],
            network: Some(network.into()),
            vsock: Some(device),
            balloon: 0,
            console: guests.into(),
            confinement: Confinement::default(),
            watcher: Watcher::default(),
        };
        let (control, orders) = native::control();
        let run = move || native::run(&Host::open().unwrap(), config, orders).unwrap();
        let console = BufReader::new(ours);
        Self { control, console, vsock, running: thread::spawn(run), _disk: disk, _network: nobody }
    }

    /// A stream to what listens in the guest.
    fn connect(&self) -> UnixStream {
        let (ours, guests) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        self.vsock.connect(PORT, Vec::new(), guests.into());
        ours
    }

    /// What the guest says next, of what it says to tests; None when it says nothing for so long.
    fn says(&mut self, within: Duration) -> Option<String> {
        self.console.get_ref().set_read_timeout(Some(within)).unwrap();
        let mut line = String::new();
        loop {
            match self.console.read_line(&mut line) {
                Ok(0) => panic!("the guest's console ended"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("the guest's console: {error}"),
            }
            if let Some(word) = line.trim_end().strip_prefix("rig: ") {
                return Some(word.to_owned());
            }
            line.clear();
        }
    }

    #[track_caller]
    fn hears(&mut self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.says(PATIENCE) {
                Some(said) if said.starts_with(word) => return,
                Some(_) => {}
                None => break,
            }
        }
        panic!("the guest has not said \"{word}\" within {} s", PATIENCE.as_secs());
    }

    /// Returns when it stands still.
    fn pause(&self) {
        self.control.pause().recv_timeout(PATIENCE).expect("the machine pauses");
    }

    fn end(self) -> Outcome {
        drop(self.console);
        self.running.join().unwrap()
    }
}

#[test]
fn a_machine_stands_still_goes_on_and_hears_its_power_button() {
    on_kvm(|| {
        let mut machine = Machine::start("tick", 2);
        machine.hears("tick=3");
        for _ in 0..3 {
            machine.pause();
            // What it had said before.
            while machine.says(Duration::from_millis(100)).is_some() {}
            let said = machine.says(Duration::from_secs(1));
            assert_eq!(said, None, "a machine that is paused says nothing");
            machine.control.resume();
            machine.hears("tick=");
        }
        machine.control.press_power_button();
        machine.hears("pressed");
        assert_eq!(machine.end(), Outcome::PoweredOff);
    });
}

#[test]
fn a_machine_is_stopped_while_it_runs_and_while_it_stands_still() {
    on_kvm(|| {
        for is_paused in [false, true] {
            let mut machine = Machine::start("tick", 2);
            machine.hears("tick=");
            if is_paused {
                machine.pause();
            }
            machine.control.stop();
            assert_eq!(machine.end(), Outcome::Stopped);
        }
    });
}

/// Firecracker #6100: vsock took no connection any more once its machine had stood still.
#[test]
fn streams_stand_still_with_their_machine_and_go_on() {
    on_kvm(|| {
        let mut machine = Machine::start("echo", 2);
        machine.hears("listens");
        let stream = machine.connect();
        let (is_enough, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&stream, &is_enough));
            let receiving = scope.spawn(|| receive(&stream, &arrived));
            for _ in 0..3 {
                let before = arrived.load(Ordering::Relaxed);
                eventually("more of the stream", PATIENCE.as_secs(), || {
                    if arrived.load(Ordering::Relaxed) > before { Ok(()) } else { Err(format!("{before}")) }
                });
                machine.pause();
                let stood = settled(&arrived);
                thread::sleep(Duration::from_secs(1));
                assert_eq!(arrived.load(Ordering::Relaxed), stood, "a machine that is paused sends nothing");
                machine.control.resume();
            }
            is_enough.store(true, Ordering::Relaxed);
            assert_eq!(receiving.join().unwrap(), sending.join().unwrap());
        });
        let another = machine.connect();
        another.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receive(&another, &arrived), 0);
        machine.control.stop();
        assert_eq!(machine.end(), Outcome::Stopped);
    });
}

/// Bytes of which each says where it stands, until it is enough; how many.
fn send(mut stream: &UnixStream, is_enough: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !is_enough.load(Ordering::Relaxed) {
        let piece: Vec<u8> = (sent..sent + 1000).map(at).collect();
        stream.write_all(&piece).unwrap();
        sent += 1000;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    sent
}

/// To the end of the stream, whose bytes have to be those of [`send`]; how many.
fn receive(mut stream: &UnixStream, arrived: &AtomicU64) -> u64 {
    let mut buffer = [0; 4096];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).expect("the guest gives back what it was sent");
        if count == 0 {
            return received;
        }
        for byte in &buffer[..count] {
            assert_eq!(*byte, at(received), "at {received}");
            received += 1;
        }
        arrived.store(received, Ordering::Relaxed);
    }
}

fn at(position: u64) -> u8 {
    (position % 251) as u8
}

/// A count once nothing is left on its way.
fn settled(count: &AtomicU64) -> u64 {
    loop {
        let before = count.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
        if count.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

/// As many as there is time for, at least three.
#[test]
fn machines_of_one_process_leave_nothing_in_it() {
    on_kvm(|| boot_many(|boots, took| boots < 3 || took < BOOTS_FOR));
}

#[test]
#[ignore = "long: minutes, where the machine's processor is emulated"]
fn two_hundred_machines_of_one_process_leave_nothing_in_it() {
    on_kvm(|| boot_many(|boots, _| boots < 200));
}

fn boot_many(goes_on: impl Fn(u32, Duration) -> bool) {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let before = (count("task"), count("fd"));
    let started = Instant::now();
    let mut boots = 0;
    while goes_on(boots, started.elapsed()) {
        let mut machine = Machine::start("nothing", [1, 2, 4][boots as usize % 3]);
        machine.hears("done");
        assert_eq!(machine.end(), Outcome::PoweredOff);
        boots += 1;
        // A thread that has been joined is still listed for a moment.
        eventually(&format!("an end of all that machine {boots} had"), 120, || {
            let now = (count("task"), count("fd"));
            let is_back = now.0 <= before.0 && now.1 <= before.1;
            if is_back { Ok(()) } else { Err(format!("threads, descriptors: {before:?}, now {now:?}")) }
        });
    }
    println!("{boots} machines in {} s", started.elapsed().as_secs());
}
