//! Which processes are the first of a PID namespace below ours, and which of them an emulator runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::waiting::{field, text};

/// Where the emulators are registered, in `/proc`.
const REGISTRY: &str = "sys/fs/binfmt_misc";

/// What is known of the guest's processes.
#[derive(Debug, Default)]
pub(super) struct Inits {
    /// The last process that was started (proc_loadavg(5)).
    last: Option<String>,
    /// Every process, and whether it is the first of a namespace: that holds from its start to its end.
    known: BTreeMap<i32, bool>,
    emulators: BTreeSet<PathBuf>,
}

impl Inits {
    /// Takes in what has started since the last time, if anything has.
    pub(super) fn update(&mut self, proc: &Path) {
        let loadavg = text(&proc.join("loadavg"));
        let last = loadavg.split_whitespace().next_back().map(str::to_owned);
        if last.is_some() && last == self.last {
            return;
        }
        let Ok(entries) = std::fs::read_dir(proc) else { return };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let before = std::mem::take(&mut self.known);
        let is_init =
            |id: i32| before.get(&id).copied().unwrap_or_else(|| is_init(&proc.join(id.to_string())));
        self.known = ids.map(|id| (id, is_init(id))).collect();
        self.emulators = emulators(&proc.join(REGISTRY));
        self.last = last;
    }

    /// Those that an emulator runs now: a program may have been replaced by another one.
    pub(super) fn emulated(&self, proc: &Path) -> Vec<Pid> {
        let runs_emulator = |id: i32| {
            let program = std::fs::read_link(proc.join(format!("{id}/exe")));
            program.is_ok_and(|program| self.emulators.contains(&program))
        };
        let inits = self.known.iter().filter(|(_, is_init)| **is_init).map(|(id, _)| *id);
        inits.filter(|id| runs_emulator(*id)).filter_map(Pid::from_raw).collect()
    }
}

/// Whether its ids (proc_pid_status(5), from the outermost namespace inwards) are of more than one namespace, and 1 in
/// its own.
fn is_init(process: &Path) -> bool {
    let status = text(&process.join("status"));
    let ids: Vec<&str> = field(&status, "NSpid").unwrap_or_default().split_whitespace().collect();
    ids.len() > 1 && ids.last() == Some(&"1")
}

/// The programs that are registered (Linux, admin-guide/binfmt-misc.rst), by the names that they are registered under,
/// and where those are links by that of the program, too.
fn emulators(registry: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(registry) else { return BTreeSet::new() };
    let mut emulators = BTreeSet::new();
    for entry in entries.flatten() {
        // `register` is only written to, and reading it fails.
        let registered = text(&entry.path());
        if let Some(interpreter) = registered.lines().find_map(|line| line.strip_prefix("interpreter ")) {
            emulators.insert(PathBuf::from(interpreter));
            emulators.extend(std::fs::canonicalize(interpreter));
        }
    }
    emulators
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A `/proc` with an emulator that is registered by a link's name.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(proc.path().join(REGISTRY)).unwrap();
            std::fs::write(proc.path().join("qemu-arm"), "").unwrap();
            symlink("qemu-arm", proc.path().join("arm-binfmt-P")).unwrap();
            let interpreter = proc.path().join("arm-binfmt-P").display().to_string();
            let text = format!("enabled\ninterpreter {interpreter}\nflags: POCF\n");
            std::fs::write(proc.path().join(REGISTRY).join("qemu-arm"), text).unwrap();
            proc
        }

        fn path(&self) -> PathBuf {
            self.0.path().canonicalize().unwrap()
        }

        fn process(&self, id: &str, ids: &str, program: &str) {
            let process = self.path().join(id);
            std::fs::create_dir(&process).unwrap();
            std::fs::write(process.join("status"), format!("Name:\tx\nNSpid:\t{ids}\n")).unwrap();
            symlink(self.path().join(program), process.join("exe")).unwrap();
        }

        fn last(&self, id: &str) {
            std::fs::write(self.path().join("loadavg"), format!("3.06 1.16 0.43 1/210 {id}\n")).unwrap();
        }
    }

    fn ids(inits: &Inits, proc: &Proc) -> Vec<i32> {
        inits.emulated(&proc.path()).into_iter().map(Pid::as_raw_pid).collect()
    }

    #[test]
    fn the_first_process_of_a_namespace_below_is_found_when_an_emulator_runs_it() {
        let proc = Proc::new();
        proc.last("9");
        proc.process("1", "1", "qemu-arm");
        proc.process("4", "4\t1", "native");
        proc.process("5", "5\t1", "qemu-arm");
        proc.process("6", "6\t2", "qemu-arm");
        proc.process("7", "7\t3\t1", "qemu-arm");
        proc.process("self", "5\t1", "qemu-arm");
        let mut inits = Inits::default();
        inits.update(&proc.path());
        assert_eq!(ids(&inits, &proc), [5, 7]);
        std::fs::remove_file(proc.path().join("4/exe")).unwrap();
        symlink(proc.path().join("qemu-arm"), proc.path().join("4/exe")).unwrap();
        assert_eq!(ids(&inits, &proc), [4, 5, 7], "it goes on as another program");
    }

    #[test]
    fn processes_are_listed_when_one_has_started_and_read_when_they_are_new() {
        let proc = Proc::new();
        proc.last("5");
        proc.process("5", "5\t1", "qemu-arm");
        let mut inits = Inits::default();
        inits.update(&proc.path());
        std::fs::write(proc.path().join("5/status"), "").unwrap();
        proc.process("6", "6\t1", "qemu-arm");
        inits.update(&proc.path());
        assert_eq!(ids(&inits, &proc), [5], "none has started");
        proc.last("6");
        inits.update(&proc.path());
        assert_eq!(ids(&inits, &proc), [5, 6]);
        std::fs::remove_dir_all(proc.path().join("5")).unwrap();
        assert_eq!(ids(&inits, &proc), [6]);
        proc.last("7");
        inits.update(&proc.path());
        assert_eq!(inits.known, BTreeMap::from([(6, true)]), "what has ended is forgotten");
    }

    #[test]
    fn a_proc_that_tells_nothing_has_none() {
        let mut inits = Inits::default();
        inits.update(Path::new("/nonexistent"));
        assert_eq!(inits.emulated(Path::new("/nonexistent")), []);
    }
}
