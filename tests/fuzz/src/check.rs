//! The fixed run of a target: everything in its corpus, and a number of mutants that are the same in each run.
//!
//! Before each input is run it is written to a file, so that it is there however the process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use crate::Target;
use crate::mutate::{Random, mutant};

/// Longer inputs find nothing that shorter ones do not.
pub const LONGEST: usize = 8192;
/// What one allocation may be for any input: guests and peers cannot make mvm ask the host for more.
const LARGEST: usize = 16 << 20;
/// An input that is run for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a target in a program whose allocator is [`Watched`].
///
/// # Panics
/// When it fails, or asks for too much memory at once.
pub fn run(target: Target, input: &[u8]) {
    LARGEST_YET.store(0, Ordering::Relaxed);
    target(input);
    let largest = LARGEST_YET.load(Ordering::Relaxed);
    assert!(largest <= LARGEST, "{largest} bytes were asked for at once");
}

/// The inputs that are kept for a target.
///
/// # Panics
/// Where they cannot be read.
#[must_use]
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target over its corpus and over `mutants` more inputs; what fails is left in a file below `directory`. Where
/// `MVM_FUZZ_INPUT` names a file, that is all that is run.
///
/// # Panics
/// When an input fails, with the file that holds it.
pub fn check(name: &str, mutants: usize, directory: &Path) {
    let target = crate::target(name);
    if let Some(path) = std::env::var_os("MVM_FUZZ_INPUT") {
        return run(target, &fs::read(&path).unwrap());
    }
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the target {name} has no corpus");
    fs::create_dir_all(directory).unwrap();
    let running = directory.join(format!("{name}.running"));
    let file = File::create(&running).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    watch(name, &running, &done);

    count_panics();

    // Fowler, Noll and Vo's hash: each target has mutants of its own.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut random = Random::new(seed);
    let mut more = (0..mutants).map(|_| mutant(&corpus, LONGEST, &mut random));
    let start = Instant::now();
    for input in corpus.iter().cloned().chain(&mut more) {
        file.set_len(input.len() as u64).unwrap();
        file.write_all_at(&input, 0).unwrap();
        let panics = PANICS.load(Ordering::Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| run(target, &input)));
        if PANICS.load(Ordering::Relaxed) != panics {
            let kept = directory.join(format!("{name}-{}", done.load(Ordering::Relaxed)));
            fs::rename(&running, &kept).unwrap();
            panic!("{name} fails: {}", replay(name, &kept));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    let (done, took) = (done.load(Ordering::Relaxed), start.elapsed());
    println!("{name}: {done} inputs, {} of them kept ones, in {took:.1?}", corpus.len());
    fs::remove_file(&running).unwrap();
}

/// A thread of the target's may panic, too.
fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            say(panic);
        }));
    });
}

fn replay(name: &str, path: &Path) -> String {
    let path = path.display();
    format!("{path}; again: MVM_FUZZ_INPUT={path} cargo test --package fuzz --test targets {name} -- --exact")
}

/// Ends the process, with the input's file, when one takes too long.
fn watch(name: &str, running: &Path, done: &Arc<AtomicUsize>) {
    let (done, replay) = (Arc::downgrade(done), replay(name, running));
    let name = name.to_owned();
    thread::spawn(move || {
        let (mut last, mut since) = (0, Instant::now());
        while let Some(done) = done.upgrade().map(|done| done.load(Ordering::Relaxed)) {
            if done != last {
                (last, since) = (done, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                eprintln!("{name} hangs: {replay}");
                std::process::abort();
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
}

static PANICS: AtomicUsize = AtomicUsize::new(0);
static LARGEST_YET: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which remembers the largest thing that it was asked for.
#[derive(Debug)]
pub struct Watched;

// SAFETY: what counts is done by the system's.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST_YET.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST_YET.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST_YET.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(place, layout, size) }
    }
}
