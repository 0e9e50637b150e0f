//! An instance with directories of its own, which are gone after the test whatever happens to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{Appliance, MVM, Outcome, Processes, run};

/// A machine for tests: it comes up once and goes with the value, or with the test program, even when that is killed.
#[derive(Debug)]
pub struct Instance {
    pub name: String,
    keeper: Keeper,
}

/// What differs from a plain `mvm up`.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// More arguments of `mvm up`.
    pub up: Vec<String>,
    /// Another PATH than the test's.
    pub path: Option<OsString>,
}

impl Options {
    /// More arguments of `mvm up`.
    pub fn up(arguments: &[&str]) -> Self {
        Self { up: arguments.iter().map(|&argument| argument.to_owned()).collect(), ..Self::default() }
    }
}

impl Instance {
    /// Directories for an instance that has not been started, with an appliance that it could boot.
    pub fn prepared(name: &str) -> Self {
        Appliance::built();
        Self::bare(name)
    }

    /// Directories for an instance, and nothing more.
    pub fn bare(name: &str) -> Self {
        Self { name: name.to_owned(), keeper: Keeper::new(name) }
    }

    /// One that runs.
    pub fn up(name: &str) -> Self {
        Self::up_with(name, &Options::default())
    }

    pub fn up_with(name: &str, options: &Options) -> Self {
        let instance = Self::prepared(name);
        let mut up = instance.command();
        up.args(["up", name]).args(&options.up);
        if let Some(path) = &options.path {
            up.env("PATH", path);
        }
        let outcome = run(&mut up);
        assert_eq!(outcome.status, 0, "{outcome}\n{}", instance.logs());
        instance
    }

    /// The one that all tests of a program share that do not need one for themselves.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Instance> = OnceLock::new();
        SHARED.get_or_init(|| Self::up("shared"))
    }

    /// `mvm` with this instance's directories, to be added to.
    pub fn command(&self) -> Command {
        self.keeper.command(&self.name)
    }

    /// Runs `mvm` with these arguments for this instance.
    #[track_caller]
    pub fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(self.command().args(arguments))
    }

    /// What `mvm status --json` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let outcome = self.mvm(&["status", "--json"]);
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome}"))
    }

    /// `mvm` with the same directories, which means no instance in particular.
    pub fn elsewhere(&self) -> Command {
        let mut command = Command::new(MVM);
        set_home(&mut command, self.home());
        command
    }

    /// Its directory below the temporary home: no other process knows it.
    pub fn home(&self) -> &Path {
        self.keeper.home.path()
    }

    pub fn processes(&self) -> Processes {
        Processes::of(self.home())
    }

    pub fn docker_socket(&self) -> PathBuf {
        self.socket("docker.sock")
    }

    pub fn buildkit_socket(&self) -> PathBuf {
        self.socket("buildkit.sock")
    }

    fn socket(&self, file: &str) -> PathBuf {
        self.home().join("r/mvm").join(&self.name).join(file)
    }

    /// `XDG_CACHE_HOME` of every instance: the user's own, so that packages and kernels are fetched and made once.
    pub fn cache() -> PathBuf {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        cache.expect("HOME or XDG_CACHE_HOME is set")
    }

    /// `XDG_DATA_HOME` of every instance.
    pub fn data() -> PathBuf {
        Self::cache().join("mvm/test-data")
    }

    /// Its directory of state.
    pub fn state(&self) -> PathBuf {
        self.home().join("s/mvm").join(&self.name)
    }

    /// The ends of its logs, for the message of a failure.
    pub fn logs(&self) -> String {
        let tail = |name: &str| {
            let text = std::fs::read(self.state().join("logs").join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        [tail("supervisor.log"), tail("console.log")].concat()
    }
}

/// Holds the directories, and a shell that waits for the end of this process to tidy up after it.
#[derive(Debug)]
struct Keeper {
    home: TempDir,
    shell: Child,
}

/// Reads until the pipe from the test ends; then brings all machines of the home down and removes the directories.
const TIDY: &str = r#"read -r end
for made in "$2"/s/mvm/*/instance.json; do
    directory=${made%/*}
    "$1" down "${directory##*/}" > /dev/null 2>&1
done
rm -rf "$2""#;

impl Keeper {
    fn new(name: &str) -> Self {
        // Short: socket paths have room for 107 bytes.
        let home = tempfile::Builder::new().prefix("mvm-t").tempdir_in("/tmp").expect("a directory in /tmp");
        for directory in ["s", "c", "r"] {
            std::fs::create_dir(home.path().join(directory)).expect("a directory for the instance");
        }
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", TIDY, &format!("keeper-of-{name}"), MVM]).arg(home.path());
        set_home(&mut command, home.path());
        let shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { home, shell: shell.expect("setsid (of util-linux) starts a shell") }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(MVM);
        command.args(["--instance", name]);
        set_home(&mut command, self.home.path());
        command
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// State, configuration and sockets are the test's own. Appliances and packages are shared by all tests, and kept
/// apart from the user's.
fn set_home(command: &mut Command, home: &Path) {
    command
        .env("XDG_STATE_HOME", home.join("s"))
        .env("XDG_CONFIG_HOME", home.join("c"))
        .env("XDG_RUNTIME_DIR", home.join("r"))
        .env("XDG_DATA_HOME", Instance::data())
        .env("DOCKER_CONFIG", home.join("c"))
        .env_remove("DOCKER_HOST")
        .env_remove("BUILDKIT_HOST")
        .env_remove("MVM_BUILDER")
        .env_remove("MVM_INSTANCE");
}
