//! `instance.json`: what the user asked of an instance.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// How large the instance is, and what it may reach. Missing fields have the defaults of [`Config::for_host`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub cpus: u8,
    pub memory_mib: u32,
    pub disk_gib: u32,
    #[serde(default)]
    pub accel: Accel,
    /// The appliance, as its store names it; absent: the one that this mvm carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// TCP ports of the host's 127.0.0.1 that the guest sees at its own 127.0.0.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<u16>,
}

/// What executes the guest's instructions, as the user chooses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The fastest engine that works here
    #[default]
    Auto,
    /// The processor's own virtualization, through Linux's KVM
    Kvm,
    /// QEMU as the processor
    Tcg,
}

/// What is wrong with a configuration, or with its file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {source}; correct it, or remove the instance with `mvm rm`", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{0} processors cannot be had: give --cpus from 1 to 32")]
    Cpus(u8),
    #[error("{0} MiB of memory are too little for the builder: give --memory 1024 or more")]
    Memory(u32),
    #[error("a data disk of {0} GiB cannot be had: give --disk from 2 to 16384")]
    Disk(u32),
    #[error("port 0 is no port: give --host-port from 1 to 65535")]
    Port,
}

impl Config {
    /// The defaults: as many processors as the host has, at most 4; a quarter of its memory, at least 2 and at most
    /// 8 GiB; a data disk of 64 GiB, of which the host stores only what was written.
    pub fn for_host(cpus: usize, memory_bytes: u64) -> Self {
        let memory = (memory_bytes / 4).clamp(2 * GIB, 8 * GIB) / MIB;
        Self {
            cpus: u8::try_from(cpus.clamp(1, 4)).unwrap_or(4),
            memory_mib: u32::try_from(memory).unwrap_or(2048),
            disk_gib: 64,
            accel: Accel::Auto,
            image: None,
            host_ports: Vec::new(),
        }
    }

    /// The defaults on this machine.
    pub fn for_this_host() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::for_host(cpus, vmm::platform::memory_bytes())
    }

    /// Reads the file; `None` where there is none yet. Whether its values can be meant matters to `up` alone, whose
    /// options may correct them.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Read { path: path.into(), source }),
        };
        let config =
            serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.into(), source })?;
        Ok(Some(config))
    }

    /// Replaces the file as one step.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let write = |source| Error::Write { path: path.into(), source };
        super::file::replace(path, &serde_json::to_vec_pretty(self).map_err(|error| write(error.into()))?)
            .map_err(write)
    }

    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=32).contains(&self.cpus) {
            return Err(Error::Cpus(self.cpus));
        }
        if self.memory_mib < 1024 {
            return Err(Error::Memory(self.memory_mib));
        }
        if !(2..=16384).contains(&self.disk_gib) {
            return Err(Error::Disk(self.disk_gib));
        }
        if self.host_ports.contains(&0) {
            return Err(Error::Port);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Accel, Config, GIB};

    #[test]
    fn defaults_follow_the_host_within_bounds() {
        let small = Config::for_host(1, 4 * GIB);
        assert_eq!((small.cpus, small.memory_mib), (1, 2048));
        let middle = Config::for_host(2, 24 * GIB);
        assert_eq!((middle.cpus, middle.memory_mib), (2, 6144));
        let large = Config::for_host(64, 512 * GIB);
        assert_eq!((large.cpus, large.memory_mib, large.disk_gib), (4, 8192, 64));
    }

    #[test]
    fn file_round_trip() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.json");
        assert_eq!(Config::load(&path).unwrap(), None);
        let config = Config { host_ports: vec![5000], accel: Accel::Tcg, ..Config::for_host(2, GIB) };
        config.store(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), Some(config));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |change: fn(&mut Config)| {
            let mut config = Config::for_host(2, GIB);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(message(|c| c.cpus = 0), "0 processors cannot be had: give --cpus from 1 to 32");
        assert!(message(|c| c.memory_mib = 64).starts_with("64 MiB of memory are too little"));
        assert!(message(|c| c.disk_gib = 1).starts_with("a data disk of 1 GiB cannot be had"));
        assert!(message(|c| c.host_ports = vec![0]).starts_with("port 0 is no port"));
    }

    #[test]
    fn broken_file_is_named_with_line_and_column() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance.json");
        std::fs::write(&path, "{\n \"cpu\": 2}").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("instance.json: unknown field `cpu`") && error.contains("line 2 column 6"),
            "{error}"
        );
    }
}
