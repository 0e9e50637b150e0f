//! The mounts of a container: LinuxKit's defaults and what the definition adds.

use std::collections::BTreeMap;

use crate::spec::{ImageConfig, MountSpec};

use super::oci::OciError;

/// All mounts, one for each destination, in the order of the destinations, so that a mount comes after the one that it
/// lies in. A later source of mounts replaces an earlier one's: defaults, `mounts`, `tmpfs`, `binds`.
pub(super) fn all(config: &ImageConfig) -> Result<Vec<MountSpec>, OciError> {
    let mut mounts = BTreeMap::new();
    let mut add = |mount: MountSpec| mounts.insert(mount.destination.clone(), mount);
    let read_only = config.readonly.unwrap_or_default();
    for mount in defaults(read_only) {
        add(mount);
    }
    for mount in config.mounts.iter().flatten() {
        if mount.kind.is_none() {
            return Err(OciError::MountType(mount.destination.clone()));
        }
        add(mount.clone());
    }
    for text in config.tmpfs.iter().flatten() {
        add(tmpfs(text)?);
    }
    for text in config.binds.iter().flatten() {
        add(bind(text)?);
    }
    Ok(mounts.into_values().collect())
}

fn defaults(read_only: bool) -> Vec<MountSpec> {
    let mount = |destination: &str, kind: &str, options: &[&str]| MountSpec {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(kind.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..MountSpec::default()
    };
    let sys =
        if read_only { &["nosuid", "noexec", "nodev", "ro"][..] } else { &["nosuid", "noexec", "nodev"] };
    vec![
        mount("/proc", "proc", &["nosuid", "nodev", "noexec", "relatime"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/sys", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

/// `SOURCE:DESTINATION[:OPTIONS]`; without options, what the machine mounts below later shows, and the other way round.
pub(crate) fn bind(text: &str) -> Result<MountSpec, OciError> {
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
        return Err(OciError::Bind(text.to_owned()));
    };
    let options = match parts.next() {
        None => vec!["rw".to_owned(), "rbind".to_owned(), "rshared".to_owned()],
        Some(options) => options.split(',').chain(["rbind"]).map(str::to_owned).collect(),
    };
    Ok(MountSpec {
        destination: destination.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options,
        ..MountSpec::default()
    })
}

/// `DESTINATION[:OPTIONS]`.
pub(crate) fn tmpfs(text: &str) -> Result<MountSpec, OciError> {
    let mut parts = text.split(':');
    let destination = parts.next().unwrap_or_default();
    let options = parts.next().map(|options| options.split(',').map(str::to_owned).collect());
    if parts.next().is_some() {
        return Err(OciError::Tmpfs(text.to_owned()));
    }
    Ok(MountSpec {
        destination: destination.to_owned(),
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".to_owned()),
        options: options.unwrap_or_default(),
        ..MountSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_replaces_the_default_at_its_place_and_order_is_by_destination() {
        let config = ImageConfig {
            binds: Some(vec!["/dev:/dev:rw,rslave".into(), "/run:/run".into()]),
            ..ImageConfig::default()
        };
        let mounts = all(&config).unwrap();
        let places: Vec<_> = mounts.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(places, ["/dev", "/dev/pts", "/proc", "/run", "/sys", "/sys/fs/cgroup"]);
        assert_eq!(mounts[0].options, ["rw", "rslave", "rbind"]);
        assert_eq!(mounts[3].options, ["rw", "rbind", "rshared"]);
    }

    #[test]
    fn what_cannot_be_parsed_is_quoted() {
        let binds = ImageConfig { binds: Some(vec!["/dev".into()]), ..ImageConfig::default() };
        assert_eq!(all(&binds).unwrap_err().to_string(), "cannot parse bind \"/dev\", missing ':'");
        let tmpfs = ImageConfig { tmpfs: Some(vec!["/a:b:c".into()]), ..ImageConfig::default() };
        assert_eq!(all(&tmpfs).unwrap_err().to_string(), "cannot parse tmpfs \"/a:b:c\", too many ':'");
    }
}
