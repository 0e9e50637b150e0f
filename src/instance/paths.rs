//! Where everything lies (docs/internals.md).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Name, runtime_dir};

/// The longest path that fits a socket address: `sun_path` has 108 bytes on Linux, 104 on macOS, the last one is NUL.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
const SOCKETS: [&str; 4] = ["supervisor.sock", "docker.sock", "buildkit.sock", "agent.sock"];

/// Nothing says where the user's files lie.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot tell where to keep files: HOME is not set to an absolute path; set it, or XDG_STATE_HOME, XDG_DATA_HOME, XDG_CACHE_HOME and XDG_CONFIG_HOME"
)]
pub struct NoHome;

/// mvm's own directories below the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub config: PathBuf,
    pub state: PathBuf,
    pub data: PathBuf,
    pub cache: PathBuf,
    runtime: PathBuf,
    fallback: PathBuf,
}

impl Home {
    /// By the XDG base directory specification, from this process's environment.
    pub fn from_env() -> Result<Self, NoHome> {
        Self::resolve(|key| std::env::var_os(key), rustix::process::getuid().as_raw())
    }

    fn resolve(env: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, NoHome> {
        // "All paths set in these environment variables must be absolute. If an implementation encounters a relative path
        // [...] it should consider the path invalid and ignore it" (XDG base directory specification 0.8).
        let absolute = |key: &str| env(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let below = |key: &str, default: &str| {
            absolute(key)
                .or_else(|| absolute("HOME").map(|home| home.join(default)))
                .map(|base| base.join("mvm"))
                .ok_or(NoHome)
        };
        let fallback = PathBuf::from(format!("/tmp/mvm-{uid}"));
        Ok(Self {
            config: below("XDG_CONFIG_HOME", ".config")?,
            state: below("XDG_STATE_HOME", ".local/state")?,
            data: below("XDG_DATA_HOME", ".local/share")?,
            cache: below("XDG_CACHE_HOME", ".cache")?,
            runtime: absolute("XDG_RUNTIME_DIR").map_or_else(|| fallback.clone(), |base| base.join("mvm")),
            fallback,
        })
    }

    /// Everything below one directory.
    #[cfg(test)]
    pub(crate) fn below(base: &Path) -> Self {
        let [config, state, data, cache, runtime] = ["c", "s", "d", "k", "r"].map(|name| base.join(name));
        Self { config, state, data, cache, fallback: runtime.clone(), runtime }
    }

    /// The names of the instances that exist, sorted.
    pub fn instances(&self) -> Vec<Name> {
        let Ok(entries) = std::fs::read_dir(&self.state) else { return Vec::new() };
        let mut names: Vec<Name> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        names.retain(|name| self.instance(name).config().exists());
        names.sort();
        names
    }

    /// Nobody else can have put the sockets there that commands connect to: a runtime directory in /tmp has a name that
    /// anybody could have taken first.
    pub fn check(&self) -> Result<(), runtime_dir::Error> {
        runtime_dir::check(&self.runtime)?;
        runtime_dir::check(&self.fallback)
    }

    /// Where one instance lies.
    pub fn instance(&self, name: &Name) -> Paths {
        Paths { directory: self.state.join(name.as_str()), runtime: self.runtime_of(name) }
    }

    fn runtime_of(&self, name: &Name) -> PathBuf {
        let wanted = self.runtime.join(name.as_str());
        let longest = SOCKETS.iter().map(|socket| wanted.join(socket).as_os_str().len()).max().unwrap_or(0);
        if longest <= LONGEST_SOCKET_PATH {
            return wanted;
        }
        // Another runtime directory may hold an instance of the same name: the short path carries a hash of the long one.
        let hash = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        self.fallback.join(format!("{name}-{short}"))
    }
}

/// The files and sockets of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    directory: PathBuf,
    runtime: PathBuf,
}

impl Paths {
    /// Removing it removes the instance.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// Holds the sockets.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }
    pub fn config(&self) -> PathBuf {
        self.directory.join("instance.json")
    }
    /// Is there for an instance that was made for one job, and goes with it.
    pub fn job_mark(&self) -> PathBuf {
        self.directory.join("job")
    }
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }
    pub fn data_disk(&self) -> PathBuf {
        self.directory.join("data.raw")
    }
    /// There is one as long as the data disk holds nothing of value.
    pub fn new_disk_mark(&self) -> PathBuf {
        self.directory.join("data.new")
    }
    pub fn state(&self) -> PathBuf {
        self.directory.join("state.json")
    }
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }
    pub fn console_log(&self) -> PathBuf {
        self.logs().join("console.log")
    }
    pub fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisor.log")
    }
    pub fn supervisor_socket(&self) -> PathBuf {
        self.runtime.join("supervisor.sock")
    }
    pub fn docker_socket(&self) -> PathBuf {
        self.runtime.join("docker.sock")
    }
    pub fn buildkit_socket(&self) -> PathBuf {
        self.runtime.join("buildkit.sock")
    }
    pub fn agent_socket(&self) -> PathBuf {
        self.runtime.join("agent.sock")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::{Home, LONGEST_SOCKET_PATH};
    use crate::instance::Name;

    fn home(variables: &[(&str, &str)]) -> Result<Home, super::NoHome> {
        let map: HashMap<&str, &str> = variables.iter().copied().collect();
        Home::resolve(|key| map.get(key).map(Into::into), 1000)
    }

    fn name() -> Name {
        "default".parse().unwrap()
    }

    #[test]
    fn defaults_below_home() {
        let home = home(&[("HOME", "/home/u")]).unwrap();
        assert_eq!(home.cache, Path::new("/home/u/.cache/mvm"));
        assert_eq!(home.data, Path::new("/home/u/.local/share/mvm"));
        let paths = home.instance(&name());
        assert_eq!(paths.directory(), Path::new("/home/u/.local/state/mvm/default"));
        assert_eq!(paths.docker_socket(), Path::new("/tmp/mvm-1000/default/docker.sock"));
    }

    #[test]
    fn xdg_variables_win_and_relative_ones_are_ignored() {
        let home = home(&[
            ("HOME", "/h"),
            ("XDG_STATE_HOME", "/s"),
            ("XDG_RUNTIME_DIR", "/run/u"),
            ("XDG_DATA_HOME", "d"),
        ])
        .unwrap();
        assert_eq!(home.data, Path::new("/h/.local/share/mvm"));
        assert_eq!(home.instance(&name()).state(), Path::new("/s/mvm/default/state.json"));
        assert_eq!(home.instance(&name()).agent_socket(), Path::new("/run/u/mvm/default/agent.sock"));
    }

    #[test]
    fn long_runtime_directory_gets_a_short_stand_in() {
        let long = format!("/{}", "x".repeat(90));
        let home = home(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", &long)]).unwrap();
        let socket = home.instance(&name()).supervisor_socket();
        assert!(socket.as_os_str().len() <= LONGEST_SOCKET_PATH);
        assert!(socket.starts_with("/tmp/mvm-1000"), "{}", socket.display());
        let other = Home { runtime: home.runtime.join("y"), ..home.clone() };
        assert_ne!(other.instance(&name()).runtime(), home.instance(&name()).runtime());
    }

    #[test]
    fn without_home_the_message_says_what_to_set() {
        let error = home(&[("HOME", "relative")]).unwrap_err().to_string();
        assert!(error.starts_with("cannot tell where to keep files: HOME is not set"), "{error}");
    }
}
