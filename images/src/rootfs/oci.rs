//! `config.json`: a container by the OCI runtime specification, from an image object by LinuxKit's defaults (no
//! capabilities; the machine's network, IPC and host name; a process and a mount namespace of its own).
//!
//! One default differs: a container's control group is `/mvm/NAME`. A relative one would lie below init's own, where
//! processes are, and `/NAME` could be init's (`/init`) or the one below which dockerd puts its containers (`/docker`).

use std::collections::{HashMap, HashSet};

use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxResources, Mount, MountBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use serde::de::DeserializeOwned;

use super::mounts;
use crate::spec::{DeviceSpec, Id, IdMapping, ImageConfig, Resources};

/// Why an image object cannot become a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    #[error("mount for destination {0} is missing type")]
    MountType(String),
    #[error("cannot parse bind {0:?}, missing ':'")]
    Bind(String),
    #[error("cannot parse tmpfs {0:?}, too many ':'")]
    Tmpfs(String),
    #[error("unknown capability: {0}")]
    Capability(String),
    #[error("unknown {what}: {text:?}")]
    Unknown { what: &'static str, text: String },
    #[error("cannot parse rlimit {0:?}; it is NAME,SOFT,HARD")]
    Rlimit(String),
    #[error("{0:?} is no number; what it stands for was not looked up")]
    Id(Id),
    #[error("there is no command to run; give one")]
    NoCommand,
    #[error("cannot describe the container")]
    Describe(#[from] oci_spec::OciSpecError),
    #[error("cannot write the container's description")]
    Serialize(#[from] serde_json::Error),
}

/// The container of an image object.
pub(super) fn spec(name: &str, config: &ImageConfig) -> Result<Spec, OciError> {
    let root = RootBuilder::default().path("rootfs").readonly(config.readonly.unwrap_or_default()).build()?;
    let mounts: Vec<_> = mounts::all(config)?.iter().map(mount).collect::<Result<_, _>>()?;
    let mut builder = SpecBuilder::default()
        .version("1.0.2")
        .root(root)
        .mounts(mounts)
        .process(process(config)?)
        .linux(linux(name, config)?);
    if let Some(hostname) = &config.hostname {
        builder = builder.hostname(hostname);
    }
    if let Some(annotations) = &config.annotations {
        builder = builder.annotations(annotations.clone().into_iter().collect::<HashMap<_, _>>());
    }
    let mut spec = builder.build()?;
    if config.hostname.is_none() {
        spec.set_hostname(None);
    }
    Ok(spec)
}

fn mount(mount: &crate::spec::MountSpec) -> Result<Mount, OciError> {
    let mut builder = MountBuilder::default().destination(&mount.destination).options(mount.options.clone());
    if let Some(kind) = &mount.kind {
        builder = builder.typ(kind);
    }
    if let Some(source) = &mount.source {
        builder = builder.source(source);
    }
    Ok(builder.build()?)
}

fn process(config: &ImageConfig) -> Result<Process, OciError> {
    let args = config.command.clone().filter(|command| !command.is_empty()).ok_or(OciError::NoCommand)?;
    let number = |id: &Id| id.number().ok_or_else(|| OciError::Id(id.clone()));
    let own = |id: Option<&Id>| id.map_or(Ok(0), number);
    let user = UserBuilder::default()
        .uid(own(config.uid.as_ref())?)
        .gid(own(config.gid.as_ref())?)
        .additional_gids(config.additional_gids.iter().flatten().map(number).collect::<Result<Vec<_>, _>>()?)
        .build()?;
    let granted = capabilities(config.capabilities.as_deref())?;
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(granted.clone())
        .effective(granted.clone())
        .inheritable(granted.clone())
        .permitted(granted)
        .ambient(self::capabilities(config.ambient.as_deref())?)
        .build()?;
    let rlimits = config.rlimits.iter().flatten().map(|text| rlimit(text)).collect::<Result<Vec<_>, _>>()?;
    let mut builder = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(args)
        .env(config.env.clone().unwrap_or_default())
        .cwd(config.cwd.as_deref().unwrap_or("/"))
        .capabilities(capabilities)
        .rlimits(rlimits)
        .no_new_privileges(config.no_new_privileges.unwrap_or_default());
    if let Some(adjustment) = config.oom_score_adj {
        builder = builder.oom_score_adj(adjustment);
    }
    Ok(builder.build()?)
}

fn linux(name: &str, config: &ImageConfig) -> Result<oci_spec::runtime::Linux, OciError> {
    let cgroups_path = config.cgroups_path.clone().unwrap_or_else(|| format!("/mvm/{name}"));
    let mut builder = LinuxBuilder::default()
        .namespaces(namespaces(config)?)
        .cgroups_path(cgroups_path)
        .masked_paths(config.masked_paths.clone().unwrap_or_default())
        .readonly_paths(config.readonly_paths.clone().unwrap_or_default())
        .resources(resources(config)?)
        .devices(nodes(config)?)
        .uid_mappings(mappings(config.uid_mappings.as_ref())?)
        .gid_mappings(mappings(config.gid_mappings.as_ref())?)
        .sysctl(config.sysctl.clone().unwrap_or_default().into_iter().collect::<HashMap<_, _>>());
    if let Some(propagation) = &config.rootfs_propagation {
        builder = builder.rootfs_propagation(propagation);
    }
    Ok(builder.build()?)
}

/// A name in any of the four fields is the machine's own namespace (`host`, `root`), a new one (`new`, `none`, and the
/// process namespace unless something is said) or that of a path.
fn namespaces(config: &ImageConfig) -> Result<Vec<LinuxNamespace>, OciError> {
    use LinuxNamespaceType as Type;
    let asked = [
        (Type::Network, config.net.as_deref(), "host"),
        (Type::Ipc, config.ipc.as_deref(), "host"),
        (Type::Uts, config.uts.as_deref(), "host"),
        (Type::User, config.userns.as_deref(), "host"),
        (Type::Pid, config.pid.as_deref(), "new"),
        (Type::Mount, None, "new"),
    ];
    let mut namespaces = Vec::new();
    for (kind, asked, default) in asked {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        match namespace(asked.filter(|text| !text.is_empty()).unwrap_or(default))? {
            Namespace::Machine => {}
            Namespace::New => namespaces.push(builder.build()?),
            Namespace::Of(path) => namespaces.push(builder.path(path).build()?),
        }
    }
    Ok(namespaces)
}

/// Which namespace a text asks for.
pub(crate) enum Namespace<'a> {
    Machine,
    New,
    /// That of a path.
    Of(&'a str),
}

pub(crate) fn namespace(text: &str) -> Result<Namespace<'_>, OciError> {
    match text {
        "" | "host" | "root" => Ok(Namespace::Machine),
        "new" | "none" => Ok(Namespace::New),
        path if path.starts_with('/') => Ok(Namespace::Of(path)),
        other => Err(OciError::Unknown { what: "namespace", text: other.to_owned() }),
    }
}

fn capabilities(names: Option<&[String]>) -> Result<HashSet<Capability>, OciError> {
    let mut set = HashSet::new();
    for name in names.unwrap_or_default() {
        set.extend(capability_set(name)?);
    }
    Ok(set)
}

/// The capabilities of one name: one, or all.
pub(crate) fn capability_set(name: &str) -> Result<HashSet<Capability>, OciError> {
    if name.eq_ignore_ascii_case("all") {
        return ALL_CAPABILITIES.into_iter().map(capability).collect();
    }
    Ok(HashSet::from([capability(name)?]))
}

fn capability(name: &str) -> Result<Capability, OciError> {
    from_text(name).ok_or_else(|| OciError::Capability(name.to_owned()))
}

/// What the definition allows of devices; each is allowed, and each but `all` is made.
fn resources(config: &ImageConfig) -> Result<LinuxResources, OciError> {
    let mut resources = config.resources.as_ref().map_or_else(|| Ok(LinuxResources::default()), limits)?;
    let mut rules = resources.devices().clone().unwrap_or_default();
    for device in config.devices.iter().flatten() {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(device_type(device)?)
            .access(device.mode.as_deref().filter(|_| device.path == "all").unwrap_or("rwm"));
        if device.path != "all" {
            rule = rule.major(device.major).minor(device.minor);
        }
        rules.push(rule.build()?);
    }
    resources.set_devices(Some(rules));
    Ok(resources)
}

/// The runtime specification spells one of them in another way.
fn limits(resources: &Resources) -> Result<LinuxResources, OciError> {
    let mut json = serde_json::to_value(resources)?;
    if let Some(fields) = json.as_object_mut()
        && let Some(block_io) = fields.remove("blockio")
    {
        fields.insert("blockIO".to_owned(), block_io);
    }
    Ok(serde_json::from_value(json)?)
}

fn mappings(ids: Option<&Vec<IdMapping>>) -> Result<Vec<LinuxIdMapping>, OciError> {
    let mapping = |id: &IdMapping| {
        let mapping = LinuxIdMappingBuilder::default().container_id(id.container_id).host_id(id.host_id);
        Ok(mapping.size(id.size).build()?)
    };
    ids.into_iter().flatten().map(mapping).collect()
}

fn nodes(config: &ImageConfig) -> Result<Vec<oci_spec::runtime::LinuxDevice>, OciError> {
    let made = config.devices.iter().flatten().filter(|device| device.path != "all");
    made.map(|device| {
        let mode = device.mode.as_deref().unwrap_or("0666");
        let mode = u32::from_str_radix(mode, 8)
            .map_err(|_| OciError::Unknown { what: "device mode", text: mode.to_owned() })?;
        let node = LinuxDeviceBuilder::default()
            .path(&device.path)
            .typ(device_type(device)?)
            .major(device.major)
            .minor(device.minor)
            .file_mode(mode);
        Ok(node.uid(0_u32).gid(0_u32).build()?)
    })
    .collect()
}

fn device_type(device: &DeviceSpec) -> Result<LinuxDeviceType, OciError> {
    from_text(&device.kind)
        .ok_or_else(|| OciError::Unknown { what: "device type", text: device.kind.clone() })
}

pub(crate) fn rlimit(text: &str) -> Result<PosixRlimit, OciError> {
    let bad = || OciError::Rlimit(text.to_owned());
    let mut parts = text.split(',').map(str::trim);
    let (Some(name), Some(soft), Some(hard), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    let value = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
    let kind: PosixRlimitType = from_text(&format!("RLIMIT_{}", name.to_uppercase()))
        .ok_or_else(|| OciError::Unknown { what: "limit", text: name.to_owned() })?;
    let (soft, hard) = (value(soft).ok_or_else(bad)?, value(hard).ok_or_else(bad)?);
    Ok(PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build()?)
}

/// A value that the specification spells as a string.
fn from_text<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// `all`: linux/capability.h of Linux 6.12.
pub(crate) const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> ImageConfig {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn json(yaml: &str) -> serde_json::Value {
        serde_json::to_value(spec("a", &config(yaml)).unwrap()).unwrap()
    }

    fn message(yaml: &str) -> String {
        spec("a", &config(yaml)).unwrap_err().to_string()
    }

    #[test]
    fn defaults_share_all_but_processes_and_mounts() {
        let json = json("command: [/bin/x]");
        let kinds: Vec<_> =
            json["linux"]["namespaces"].as_array().unwrap().iter().map(|each| each["type"].clone()).collect();
        assert_eq!(kinds, ["pid", "mount"]);
        assert_eq!(json["process"]["capabilities"]["effective"], serde_json::json!([]));
        assert_eq!(json["linux"]["cgroupsPath"], "/mvm/a");
        assert_eq!(json["root"]["readonly"], false);
        assert!(json.get("hostname").is_none_or(serde_json::Value::is_null), "{json}");
    }

    #[test]
    fn all_is_every_capability() {
        let json = json(
            "{command: [/x], capabilities: [all], pid: host, net: new, rlimits: ['nofile,10,unlimited']}",
        );
        assert_eq!(json["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
        let kinds: Vec<_> =
            json["linux"]["namespaces"].as_array().unwrap().iter().map(|each| each["type"].clone()).collect();
        assert_eq!(kinds, ["network", "mount"]);
        assert_eq!(json["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
    }

    #[test]
    fn mistakes_are_quoted() {
        assert_eq!(message("{command: [/x], capabilities: [CAP_FLY]}"), "unknown capability: CAP_FLY");
        assert_eq!(message("{command: [/x], net: hots}"), "unknown namespace: \"hots\"");
        assert_eq!(
            message("{command: [/x], rlimits: ['nofile']}"),
            "cannot parse rlimit \"nofile\"; it is NAME,SOFT,HARD"
        );
        assert_eq!(message("{}"), "there is no command to run; give one");
    }
}
