//! Every rule of every class, and calls that have none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;

use vmm::sandbox::{self, Class};

use crate::calls::{self, make};
use crate::child::{self, class, enter, start};

#[test]
fn every_rule_lets_its_call_through() {
    for class in Class::ALL {
        start(&format!("allowed {}", class.name())).well();
        assert_eq!(start(&format!("ends {}", class.name())).status, Some(7), "exit_group, of {class:?}");
    }
}

/// What the thread does at its end is a part of it.
pub(crate) fn allowed(words: &[&str]) {
    let class = class(words[0]);
    let confinement = enter();
    let kicker = Kicker::start();
    let confined = move || {
        // The number of this thread is asked for now: that call has no rule.
        THREAD.with(|_| ());
        confinement.confine(class).unwrap();
        for rule in sandbox::rules(class) {
            eprintln!("{}", rule.name);
            match rule.name {
                // Each ends what calls it: a thread that returns makes the one, [`ends`] the other.
                "exit" | "exit_group" => {}
                "rt_sigreturn" => kicker.wait_for_kick(),
                _ => drop(make(rule.number, calls::allowed(rule))),
            }
        }
    };
    thread::spawn(confined).join().unwrap();
}

pub(crate) fn ends(words: &[&str]) {
    enter().confine(class(words[0])).unwrap();
    // SAFETY: ends the process.
    unsafe { libc::_exit(7) };
}

static KICKED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    KICKED.store(true, Ordering::Relaxed);
}

/// Another thread, which sends signals when asked.
struct Kicker(std::sync::mpsc::Sender<libc::pid_t>);

impl Kicker {
    fn start() -> Self {
        vmm_sys_util::signal::register_signal_handler(libc::SIGUSR1, on_kick).unwrap();
        let (sender, asked) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let process = std::process::id().cast_signed();
            for thread in asked {
                make(libc::SYS_tgkill, [process.into(), i64::from(thread), libc::SIGUSR1.into(), 0, 0, 0]);
            }
        });
        Self(sender)
    }

    fn wait_for_kick(&self) {
        self.0.send(THREAD.with(|thread| *thread)).unwrap();
        while !KICKED.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }
}

thread_local! {
    // SAFETY: gettid has no preconditions.
    static THREAD: libc::pid_t = unsafe { libc::gettid() };
}

#[test]
fn every_condition_of_a_rule_refuses_other_arguments() {
    for class in Class::ALL {
        let mut calls: Vec<_> =
            sandbox::rules(class).filter(|rule| !rule.conditions.is_empty()).map(|rule| rule.name).collect();
        calls.dedup();
        for call in calls {
            let number = sandbox::rules(class).find(|rule| rule.name == call).unwrap().number;
            let refused = calls::refused(class, call);
            assert!(!refused.is_empty(), "give {call} arguments that are refused");
            for index in 0..refused.len() {
                let ended = start(&format!("refused {} {call} {index}", class.name()));
                ended.killed(class, number);
                assert!(
                    ended.said.contains(&format!("system call {number} ({call}), which")),
                    "{}",
                    ended.said
                );
            }
        }
    }
}

pub(crate) fn refused(words: &[&str]) {
    let class = class(words[0]);
    let number = sandbox::rules(class).find(|rule| rule.name == words[1]).unwrap().number;
    let arguments = calls::refused(class, words[1])[words[2].parse::<usize>().unwrap()];
    enter().confine(class).unwrap();
    make(number, arguments);
}

/// What a guest that has taken over a thread would try.
const TRIED: [i64; 18] = [
    libc::SYS_openat,
    libc::SYS_open,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_execve,
    libc::SYS_kill,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_rt_sigaction,
    libc::SYS_memfd_create,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_register,
    libc::SYS_unlinkat,
    libc::SYS_mprotect,
];

#[test]
fn a_call_without_a_rule_ends_the_process_and_is_said() {
    for class in Class::ALL {
        for number in TRIED {
            start(&format!("forbidden {} {number}", class.name())).killed(class, number);
        }
    }
    let said = start(&format!("forbidden vCPU {}", libc::SYS_socket)).said;
    assert!(
        said.contains(
            "mvm: killed: a vCPU thread made the system call 41 (socket), which it never makes so; this is a bug of \
             mvm, or an attack by the guest\n"
        ),
        "{said}"
    );
}

pub(crate) fn forbidden(words: &[&str]) {
    let (class, number) = (class(words[0]), words[1].parse().unwrap());
    enter().confine(class).unwrap();
    make(number, [0; 6]);
}

#[test]
fn one_who_holds_the_signal_back_is_killed_by_the_kernel() {
    let ended = start("held-back");
    assert_eq!(ended.status, None, "a signal: {}", ended.said);
    assert!(!ended.said.contains("killed"), "{}", ended.said);
}

pub(crate) fn held_back() {
    enter().confine(Class::Vcpu).unwrap();
    let signals: u64 = 1 << (libc::SIGSYS - 1);
    let address = (&raw const signals) as i64;
    assert_eq!(make(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK.into(), address, 0, 8, 0, 0]), 0);
    make(libc::SYS_socket, [0; 6]);
    child::end();
}

#[test]
fn a_forbidden_call_is_said_whoever_holds_the_log() {
    // Firecracker #6086: the signal's handler waited for a lock of the log's.
    start("locked").killed(Class::Vcpu, libc::SYS_socket);
}

pub(crate) fn locked() {
    let confinement = enter();
    let barrier = Arc::new(Barrier::new(2));
    let holding = Arc::clone(&barrier);
    thread::spawn(move || {
        let _held = std::io::stderr().lock();
        holding.wait();
        loop {
            thread::park();
        }
    });
    barrier.wait();
    confinement.confine(Class::Vcpu).unwrap();
    make(libc::SYS_socket, [0; 6]);
}

#[test]
fn what_is_logged_behind_the_filters_opens_no_file() {
    // Cloud Hypervisor #8327: a line of the log wanted to know the time zone.
    for class in Class::ALL {
        let ended = start(&format!("logs {}", class.name()));
        ended.well();
        assert!(ended.said.contains("WARN sandbox::rules: still heard"), "{}", ended.said);
    }
}

/// As the machine's process logs.
pub(crate) fn logs(words: &[&str]) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    enter().confine(class(words[0])).unwrap();
    tracing::warn!("still heard");
}

/// What no thread can do without, in whatever order: it allocates, waits for others, and ends.
#[test]
fn allocator_locks_and_ends_of_threads_work() {
    for class in Class::ALL {
        start(&format!("ordinary {}", class.name())).well();
    }
}

pub(crate) fn ordinary(words: &[&str]) {
    const THREADS: usize = 12;
    let class = class(words[0]);
    let confinement = enter();
    let together = Arc::new((Mutex::new(0), Condvar::new(), Barrier::new(THREADS)));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (confinement, together) = (confinement.clone(), Arc::clone(&together));
            thread::spawn(move || {
                confinement.confine(class).unwrap();
                let (count, changed, barrier) = &*together;
                barrier.wait();
                allocate();
                *count.lock().unwrap() += 1;
                changed.notify_all();
                let all = changed.wait_while(count.lock().unwrap(), |count| *count < THREADS).unwrap();
                drop(all);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Small blocks until the heap grows, and a large one that grows by itself; then all of it goes back.
fn allocate() {
    let small: Vec<Vec<u8>> = (0..400).map(|_| vec![1; 4000]).collect();
    let mut large: Vec<u8> = vec![1; 1 << 20];
    large.resize(3 << 20, 2);
    assert_eq!(small.len() + large.len(), 400 + (3 << 20));
}

/// The number that the tables have for a kick is this C library's.
#[test]
fn a_kick_is_the_signal_of_its_rule() {
    let rule = sandbox::rules(Class::Main).find(|rule| rule.name == "tgkill").unwrap();
    let signal = u32::try_from(libc::SIGRTMIN()).unwrap();
    let of_signal = rule.conditions.iter().find(|condition| condition.argument == 2).unwrap();
    assert_eq!(of_signal.matches, sandbox::Match::Is(signal));
}
