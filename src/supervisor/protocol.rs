//! What a command and the supervisor of an instance say to each other on `supervisor.sock`: one JSON object a line,
//! one [`Request`] a connection.

use serde::{Deserialize, Serialize};

use crate::instance::{Config, Name};
use crate::printable::printable;

/// The only line that a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Answered with one [`Reply::Status`].
    Status,
    /// Answered with a [`Reply::Event`] for everything that has happened since the supervisor's start, and then for
    /// everything that happens. Ends with the supervisor.
    Events,
    /// Answered with [`Reply::Stopped`] when the machine is gone.
    Down,
    /// These ports of the host's loopback are reachable from the guest as long as the connection stands. Answered with
    /// [`Reply::Opened`] once they are.
    OpenPorts { ports: Vec<u16> },
}

/// A line of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Status(Box<Status>),
    Event(Event),
    Stopped {
        orderly: bool,
    },
    Opened,
    /// What was asked could not be done, as a sentence.
    Error(String),
}

/// Where in its life an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has never run.
    Created,
    Starting,
    Ready,
    Stopping,
    Stopped,
    Failed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Something that happened to the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A stage of the boot ended; it took `took_ms`, and ended `at_ms` after the supervisor began to start the machine.
    Stage { name: String, took_ms: u64, at_ms: u64 },
    /// The builder answers, and its sockets exist.
    Ready { at_ms: u64 },
    /// The machine was never ready, or ended although nobody asked for it: the last event.
    Failed(Trouble),
    /// The instance was stopped: the last event. Not orderly if its guest had to be killed for that.
    Stopped { orderly: bool },
}

/// Why an instance failed, and where to read more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub reason: String,
    /// What the guest's console, or the step that failed, printed last.
    pub last_lines: Vec<String>,
    pub log: String,
}

/// An instance, as `mvm status --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub state: State,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the guest's console, or the step that failed, printed last before it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// Where to read more about the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The engine that executes the guest; absent when no machine runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What the machine does without on this host, of its sandbox and of its disks' speed, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// The supervisor's process id; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_pid: Option<u32>,
    /// How long the machine took to be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_after_ms: Option<u64>,
    pub config: Config,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_socket: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildkit_socket: Option<String>,
    /// The services of the guest, of which the builder is made.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Empty until the guest's self-test has ended.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Container ports that are published on the host's 127.0.0.1.
    #[serde(default)]
    pub published_ports: Vec<PublishedPort>,
    /// Asked of the guest by `mvm status`, when it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Status {
    /// An instance of which nothing runs.
    pub fn new(name: &Name, state: State, config: Config) -> Self {
        Self {
            name: name.to_string(),
            state,
            reason: None,
            last_lines: Vec::new(),
            log: None,
            engine: None,
            lacks: Vec::new(),
            supervisor_pid: None,
            ready_after_ms: None,
            config,
            docker_socket: None,
            buildkit_socket: None,
            services: Vec::new(),
            platforms: Vec::new(),
            published_ports: Vec::new(),
            usage: None,
        }
    }
}

/// Memory and data disk, as the guest sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    pub disk_total_bytes: u64,
    pub disk_available_bytes: u64,
}

impl From<protocol::agent::UsageResponse> for Usage {
    fn from(answer: protocol::agent::UsageResponse) -> Self {
        Self {
            memory_total_bytes: answer.memory_total_bytes,
            memory_available_bytes: answer.memory_available_bytes,
            disk_total_bytes: answer.disk_total_bytes,
            disk_available_bytes: answer.disk_available_bytes,
        }
    }
}

impl Usage {
    /// "210 of 1980 MiB of memory, 1 of 63 GiB of disk", rounded up.
    pub fn sentence(&self) -> String {
        const MIB: u64 = 1024 * 1024;
        let used = |total: u64, available: u64, unit: u64| {
            (total.saturating_sub(available).div_ceil(unit), total.div_ceil(unit))
        };
        let memory = used(self.memory_total_bytes, self.memory_available_bytes, MIB);
        let disk = used(self.disk_total_bytes, self.disk_available_bytes, MIB * 1024);
        format!("{} of {} MiB of memory, {} of {} GiB of disk", memory.0, memory.1, disk.0, disk.1)
    }
}

/// A service of the guest, as its init told of it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub state: ServiceState,
    /// How often it ended and was started again.
    pub restarts: u32,
    /// How it ended the last time; empty before that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_exit: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    Starting,
    Running,
    /// It has ended, and is started again after a pause.
    BackingOff,
    Stopped,
}

impl From<&protocol::agent::ServiceChanged> for Service {
    fn from(change: &protocol::agent::ServiceChanged) -> Self {
        use protocol::agent::service_changed::State;
        let state = match change.state() {
            State::Unspecified | State::Starting => ServiceState::Starting,
            State::Running => ServiceState::Running,
            State::BackingOff => ServiceState::BackingOff,
            State::Stopped => ServiceState::Stopped,
        };
        Self {
            name: printable(&change.name),
            state,
            restarts: change.restarts,
            last_exit: printable(&change.last_exit),
        }
    }
}

impl Service {
    /// "running", "starting, after it ended with exit status 2 (restart 3)".
    pub fn sentence(&self) -> String {
        let state = match self.state {
            ServiceState::Starting => "starting",
            ServiceState::Running => "running",
            ServiceState::BackingOff => "waiting to start again",
            ServiceState::Stopped => "stopped",
        };
        match self.restarts {
            0 => state.to_owned(),
            restarts => {
                format!("{state}; restarted {restarts} times, the last time after {}", self.last_exit)
            }
        }
    }
}

/// A platform of which the guest has tried to execute a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub platform: String,
    pub works: bool,
    /// "qemu-aarch64 10.0.13"; absent when the processor itself executes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// Why it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<protocol::agent::Platform> for Platform {
    fn from(found: protocol::agent::Platform) -> Self {
        let program = found.emulator.rsplit('/').next().unwrap_or_default();
        let emulator = [program, &found.emulator_version].join(" ").trim().to_owned();
        Self {
            platform: found.platform,
            works: found.works,
            emulator: Some(emulator).filter(|text| !text.is_empty()),
            reason: Some(found.reason).filter(|text| !text.is_empty()),
        }
    }
}

/// A port that a running container publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub port: u16,
    /// Why it is not reachable from the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{Event, Platform, Reply, Request};

    #[test]
    fn lines_on_the_wire() {
        let line = |value: &Request| serde_json::to_string(value).unwrap();
        assert_eq!(line(&Request::Status), r#""status""#);
        assert_eq!(line(&Request::OpenPorts { ports: vec![5000] }), r#"{"open-ports":{"ports":[5000]}}"#);
        let reply = Reply::Event(Event::Stage { name: "kernel".into(), took_ms: 3, at_ms: 4 });
        assert_eq!(
            serde_json::to_string(&reply).unwrap(),
            r#"{"event":{"stage":{"name":"kernel","took_ms":3,"at_ms":4}}}"#
        );
    }

    #[test]
    fn emulators_are_named_by_program_and_version() {
        let platform = Platform::from(protocol::agent::Platform {
            platform: "linux/arm64".into(),
            works: true,
            emulator: "/usr/bin/qemu-aarch64".into(),
            emulator_version: "10.0.13".into(),
            reason: String::new(),
        });
        assert_eq!(platform.emulator.as_deref(), Some("qemu-aarch64 10.0.13"));
        assert_eq!(platform.reason, None);
        assert_eq!(Platform::from(protocol::agent::Platform::default()).emulator, None);
    }
}
