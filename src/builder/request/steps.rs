//! How the steps of a build run: what `docker buildx build` says with `--network`, `--allow`, `--add-host`, `--shm-size`, `--ulimit`
//! and `--cgroup-parent`, read as it reads them, and as attributes of BuildKit's `dockerfile.v0`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What the user asked for; nothing is the builder's own way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    pub network: Network,
    pub allowed: Vec<Entitlement>,
    pub hosts: Vec<Host>,
    pub shm_size: Option<ByteSize>,
    pub ulimits: Vec<Ulimit>,
    pub cgroup_parent: Option<String>,
}

/// Which network a step sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// One of its own, from which others can be reached.
    #[default]
    Default,
    /// Nothing but itself.
    None,
    /// That of the machine which the builder runs in.
    Host,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    /// None is the builder's own machine, whose address only the builder knows.
    address: Option<IpAddr>,
}

/// What Docker calls the address of the daemon's machine.
const GATEWAY: &str = "host-gateway";

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u64);

/// A limit of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    name: String,
    /// -1 is none.
    soft: i64,
    hard: i64,
}

/// Those that Docker knows.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What a step may do that a builder may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement(String);

const NETWORK_HOST: &str = "network.host";
/// BuildKit's, but for those that a bake file has (`fs`), which are the client's own.
const ENTITLEMENTS: [&str; 3] = [NETWORK_HOST, "security.insecure", "device"];

impl FromStr for Entitlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        let is_known = ENTITLEMENTS.contains(&name) && (name == text || name == "device");
        let unknown =
            || format!("{text:?} is nothing that steps are allowed; there are {}", ENTITLEMENTS.join(", "));
        if is_known { Ok(Self(text.to_owned())) } else { Err(unknown()) }
    }
}

impl Steps {
    /// Whether the builder has to say first which address its machine has for the steps.
    pub(in crate::builder) fn name_the_gateway(&self) -> bool {
        self.hosts.iter().any(|host| host.address.is_none())
    }

    /// The same, now that it has.
    pub(in crate::builder) fn with_gateway(&self, gateway: IpAddr) -> Self {
        let mut steps = self.clone();
        for host in &mut steps.hosts {
            host.address.get_or_insert(gateway);
        }
        steps
    }

    /// What the steps may do, each once.
    pub(super) fn entitlements(&self) -> Vec<String> {
        let network = (self.network == Network::Host).then(|| NETWORK_HOST.to_owned());
        let mut all: Vec<_> =
            self.allowed.iter().map(|Entitlement(name)| name.clone()).chain(network).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let network = match self.network {
            Network::Default => None,
            Network::None => Some("none".to_owned()),
            Network::Host => Some("host".to_owned()),
        };
        let listed = |all: Vec<String>| (!all.is_empty()).then(|| all.join(","));
        let all = [
            ("force-network-mode", network),
            ("add-hosts", listed(self.hosts.iter().map(ToString::to_string).collect())),
            ("shm-size", self.shm_size.map(|size| size.bytes().to_string())),
            ("ulimit", listed(self.ulimits.iter().map(ToString::to_string).collect())),
            ("cgroup-parent", self.cgroup_parent.clone()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            other => Err(format!("a build has no network {other:?}; write default, none or host")),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no host with its address; write NAME:ADDRESS or NAME=ADDRESS");
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(wrong());
        }
        let address = match address {
            GATEWAY => None,
            address => {
                let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                Some(bare.unwrap_or(address).parse().map_err(|_| wrong())?)
            }
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}={address}", self.name),
            None => write!(f, "{}={GATEWAY}", self.name),
        }
    }
}

impl ByteSize {
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    /// As Docker reads a size: a number, with a fraction or not, and a unit of powers of 1024.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size; write a number and b, k, m or g, as in 64m");
        let lower = text.trim().to_ascii_lowercase();
        let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(end);
        let bytes: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        // Of a byte, nothing counts.
        let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 6).ok_or_else(wrong)?;
        let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().map_err(|_| wrong())? };
        let part = part.checked_mul(bytes).and_then(|part| part.checked_div(10_u64.pow(digits)));
        let size = whole.checked_mul(bytes).zip(part).and_then(|(whole, part)| whole.checked_add(part));
        size.filter(|size| i64::try_from(*size).is_ok()).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no limit; write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096");
        let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
        if !ULIMITS.contains(&name) {
            return Err(format!("there is no limit {name:?}; there are {}", ULIMITS.join(", ")));
        }
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1).ok_or_else(wrong);
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(format!("{text:?}: the soft limit is above the hard one"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_becomes_attributes() {
        assert_eq!(Steps::default().attributes().count(), 0);
        let steps = Steps {
            network: Network::Host,
            hosts: ["a:10.0.0.1", "b.c=[::1]", "d:fe80::2"].map(|host| host.parse().unwrap()).into(),
            shm_size: Some("64m".parse().unwrap()),
            ulimits: ["nofile=1024:4096", "core=-1"].map(|limit| limit.parse().unwrap()).into(),
            cgroup_parent: Some("builds".to_owned()),
            ..Steps::default()
        };
        let expected = [
            ("force-network-mode", "host"),
            ("add-hosts", "a=10.0.0.1,b.c=::1,d=fe80::2"),
            ("shm-size", "67108864"),
            ("ulimit", "nofile=1024:4096,core=-1:-1"),
            ("cgroup-parent", "builds"),
        ];
        assert!(steps.attributes().eq(expected.map(|(key, value)| (key, value.to_owned()))));
        assert_eq!(steps.entitlements(), ["network.host"]);
        let allowed =
            ["security.insecure", "device=x", "network.host"].map(|what| what.parse().unwrap()).into();
        let steps = Steps { allowed, ..steps };
        assert_eq!(steps.entitlements(), ["device=x", "network.host", "security.insecure"]);
    }

    #[test]
    fn sizes_are_those_of_docker() {
        for (text, bytes) in [("0", 0), ("1024", 1024), ("1k", 1024), ("1.5 GiB", 3 << 29), ("2MB", 2 << 20)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "m", "1x", "1.2.3", ".5g", "9999999999g", "-1"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.ends_with("is no size; write a number and b, k, m or g, as in 64m"), "{error}");
        }
    }

    #[test]
    fn the_builders_machine_has_the_address_that_the_builder_says() {
        let steps = |hosts: [&str; 2]| Steps {
            hosts: hosts.map(|host| host.parse().unwrap()).into(),
            ..Steps::default()
        };
        let unknown = steps(["a:host-gateway", "b:10.0.0.1"]);
        assert!(unknown.name_the_gateway());
        let known = unknown.with_gateway([172, 17, 0, 1].into());
        assert_eq!(known, steps(["a:172.17.0.1", "b:10.0.0.1"]));
        assert!(!known.name_the_gateway());
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (error, wanted) in [
            (
                "bridge".parse::<Network>().unwrap_err(),
                "a build has no network \"bridge\"; write default, none or host",
            ),
            (
                "a".parse::<Host>().unwrap_err(),
                "\"a\" is no host with its address; write NAME:ADDRESS or NAME=ADDRESS",
            ),
            ("a,b:1.2.3.4".parse::<Host>().unwrap_err(), "\"a,b:1.2.3.4\" is no host with its address"),
            ("a:b".parse::<Host>().unwrap_err(), "\"a:b\" is no host with its address"),
            (
                "fs=/x".parse::<Entitlement>().unwrap_err(),
                "\"fs=/x\" is nothing that steps are allowed; there are network.host, security.insecure, device",
            ),
            ("nofile".parse::<Ulimit>().unwrap_err(), "write NAME=SOFT or NAME=SOFT:HARD"),
            (
                "files=1".parse::<Ulimit>().unwrap_err(),
                "there is no limit \"files\"; there are as, core, cpu",
            ),
            ("nofile=2:1".parse::<Ulimit>().unwrap_err(), "the soft limit is above the hard one"),
            ("nofile=-2".parse::<Ulimit>().unwrap_err(), "\"nofile=-2\" is no limit"),
        ] {
            assert!(error.contains(wanted), "{error}");
        }
    }
}
