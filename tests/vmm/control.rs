//! Orders to machines of real guests in this process, and what is left of many of them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Control, Watcher};
use vmm::hypervisor::Host;
use vmm::sandbox::Confinement;

use crate::support::{Parts, eventually, on_kvm};

/// For whatever a guest or a machine is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long machines are started one after the other, and the most of them.
const BOOTS_FOR: Duration = Duration::from_secs(40);

struct Machine {
    control: Control,
    console: BufReader<UnixStream>,
    running: JoinHandle<Outcome>,
}

impl Machine {
    fn start(action: &str, cpus: u8) -> Self {
        let parts = Parts::here();
        let (ours, guests) = UnixStream::pair().unwrap();
        let config = Config {
            cpus,
            memory: 256 << 20,
            kernel: File::open(&parts.kernel).unwrap(),
            initrd: Some(File::open(&parts.initrd).unwrap()),
            command_line: format!("console=hvc0 quiet panic=-1 rdinit=/init rig.do={action}"),
            disks: Vec::new(),
            network: None,
            vsock: None,
            balloon: 0,
            console: guests.into(),
            confinement: Confinement::default(),
            watcher: Watcher::default(),
        };
        let (control, orders) = native::control();
        let run = move || native::run(&Host::open().unwrap(), config, orders).unwrap();
        Self { control, console: BufReader::new(ours), running: thread::spawn(run) }
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
            machine.control.pause().recv_timeout(PATIENCE).expect("the machine pauses");
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
                machine.control.pause().recv_timeout(PATIENCE).expect("the machine pauses");
            }
            machine.control.stop();
            assert_eq!(machine.end(), Outcome::Stopped);
        }
    });
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
        eventually(&format!("an end of all that machine {boots} had"), 20, || {
            let now = (count("task"), count("fd"));
            if now == before { Ok(()) } else { Err(format!("threads, descriptors: {before:?}, now {now:?}")) }
        });
    }
    println!("{boots} machines in {} s", started.elapsed().as_secs());
}
