//! Whole machines on a hypervisor that plays scripts: how they end, and that nothing is left of them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::board::kernel::tests_image;
use crate::board::x86_64::layout::{POWER_BUTTON_LINE, SERIAL, SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_TYPE_OFF};
use crate::engine::Outcome;
use crate::hypervisor::Failure;
use crate::hypervisor::fake::{Fake, Scripted};

/// A machine of `cpus` processors whose console is a stream.
fn config(cpus: u8) -> (Config, UnixStream) {
    let mut kernel = tempfile::tempfile().unwrap();
    kernel.write_all(&tests_image()).unwrap();
    let (ours, guests) = UnixStream::pair().unwrap();
    let config = Config {
        cpus,
        memory: 4 << 20,
        kernel,
        initrd: None,
        command_line: "quiet".into(),
        disks: Vec::new(),
        network: None,
        vsock: None,
        balloon: 0,
        watcher: Watcher::default(),
        console: guests.into(),
        confinement: Confinement::default(),
    };
    (config, ours)
}

fn outcome(scripts: Vec<Vec<Scripted>>) -> Outcome {
    let (config, _console) = config(u8::try_from(scripts.len()).unwrap());
    run(&Fake::new(scripts), config, control().1).unwrap()
}

fn power_off() -> Scripted {
    Scripted::PortWrite(SLEEP_CONTROL, vec![SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE])
}

#[test]
fn each_end_of_a_guest_is_an_outcome_of_its_own() {
    assert_eq!(outcome(vec![vec![power_off()]]), Outcome::PoweredOff);
    assert_eq!(outcome(vec![vec![Scripted::Shutdown]]), Outcome::Reset);
    let Outcome::Failed(why) = outcome(vec![vec![Scripted::Failed(Failure::Emulation)]]) else { panic!() };
    assert!(why.starts_with("vCPU 0: the hypervisor cannot go on: it has to emulate"), "{why}");
    let Outcome::Failed(why) = outcome(vec![vec![], vec![], vec![Scripted::Panic]]) else { panic!() };
    assert_eq!(why, "vCPU 2: the thread of a vCPU panicked", "one of several ends the machine");
}

#[test]
fn a_guest_that_goes_on_for_ever_is_stopped_after_pauses_and_a_press_of_the_button() {
    let fake = Fake::new(vec![vec![], vec![]]);
    let (config, _console) = config(2);
    let (control, orders) = control();
    let ordering = thread::spawn({
        let control = control.clone();
        move || {
            for _ in 0..20 {
                control.pause();
                control.resume();
            }
            control.press_power_button();
            control.stop();
        }
    });
    assert_eq!(run(&fake, config, orders).unwrap(), Outcome::Stopped);
    ordering.join().unwrap();
    assert!(fake.seen().interrupts.contains(&POWER_BUTTON_LINE));
    // To a machine that has ended.
    control.pause();
}

#[test]
fn a_pause_is_told_when_all_stands_still_and_a_start_may_be_one() {
    const SOON: Duration = Duration::from_secs(120);
    let fake = Fake::new(vec![vec![Scripted::PortWrite(SERIAL.start, vec![b'x'])], vec![]]);
    let (config, console) = config(2);
    let (control, orders) = control();
    let before = control.pause();
    let running = thread::spawn(move || run(&fake, config, orders).unwrap());
    before.recv_timeout(SOON).unwrap();
    console.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!((&console).read(&mut [0]).is_err(), "nothing runs");
    control.resume();
    console.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((&console).read(&mut [0]).unwrap(), 1);
    for _ in 0..20 {
        let both = [control.pause(), control.pause()];
        both.iter().for_each(|paused| paused.recv_timeout(SOON).unwrap());
        control.pause().recv_timeout(SOON).unwrap();
        control.resume();
    }
    control.stop();
    assert_eq!(running.join().unwrap(), Outcome::Stopped);
    assert!(control.pause().recv().is_err(), "there is nothing that could stand still");
}

#[test]
fn what_is_said_on_the_serial_port_arrives() {
    let (config, mut console) = config(1);
    let mut script: Vec<Scripted> =
        b"early".iter().map(|byte| Scripted::PortWrite(SERIAL.start, vec![*byte])).collect();
    script.push(power_off());
    run(&Fake::new(vec![script]), config, control().1).unwrap();
    let mut said = String::new();
    console.read_to_string(&mut said).unwrap();
    assert_eq!(said, "early");
}

#[test]
fn a_machine_that_cannot_be_is_refused() {
    let refused = |change: fn(&mut Config)| {
        let (mut config, _console) = config(1);
        change(&mut config);
        run(&Fake::default(), config, control().1).unwrap_err().to_string()
    };
    assert_eq!(refused(|config| config.cpus = 0), "0 processors cannot be had; give from 1 to 32");
    assert!(
        refused(|config| config.kernel = tempfile::tempfile().unwrap()).contains("cannot read the kernel")
    );
    assert!(refused(|config| config.memory = 0).contains("memory"));
}

/// How many there are in this process, of which other tests run beside this one.
fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn two_hundred_machines_leave_neither_threads_nor_descriptors() {
    let boots = |times: usize| (0..times).for_each(|_| drop(outcome(vec![vec![power_off()], vec![]])));
    boots(1);
    let before = [count("/proc/self/fd"), count("/proc/self/task")];
    boots(200);
    // Others come and go meanwhile; a machine that left one of either would have left 200.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let after = [count("/proc/self/fd"), count("/proc/self/task")];
        if after.iter().zip(before).all(|(after, before)| *after < before + 100) {
            break;
        }
        assert!(Instant::now() < deadline, "{before:?} descriptors and threads became {after:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
