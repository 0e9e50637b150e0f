//! What the names stand for that containers and files use: users, and volumes.

use std::collections::BTreeMap;

use super::{Definition, Id, ImageConfig, MountSpec};

/// Where volumes lie in the root, each with the directories `lower`, `merged` and, if it can be written to, `tmp`.
pub(crate) const VOLUMES: &str = "containers/volumes";

/// All names of a definition.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The number of each container.
    ids: BTreeMap<String, u32>,
    /// Whether each volume can only be read.
    volumes: BTreeMap<String, bool>,
}

/// A name that stands for nothing, or for something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("cannot find id: {0}; no container has this name")]
    Id(String),
    #[error("there is no volume {0}")]
    Volume(String),
    #[error("the volume {0} is read-only, and this writes to it; add the option ro")]
    ReadOnly(String),
}

/// Below are the users that systems have themselves.
const FIRST_ID: u32 = 100;

impl Names {
    /// Numbers as LinuxKit gives them: one after the other, and of the same name the last.
    pub(crate) fn of(definition: &Definition) -> Self {
        let volumes = definition.volumes.iter().map(|volume| (volume.name.clone(), volume.readonly));
        let containers = definition.containers().map(|image| image.name.clone());
        Self { ids: containers.zip(FIRST_ID..).collect(), volumes: volumes.collect() }
    }

    pub(crate) fn number(&self, id: &Id) -> Result<u32, NameError> {
        match id {
            Id::Number(number) => Ok(*number),
            Id::Name(name) => self.ids.get(name).copied().ok_or_else(|| NameError::Id(name.clone())),
        }
    }

    /// A container's configuration without names.
    pub(crate) fn resolve(&self, mut config: ImageConfig) -> Result<ImageConfig, NameError> {
        let groups = config.additional_gids.iter_mut().flatten();
        for id in config.uid.iter_mut().chain(&mut config.gid).chain(groups) {
            *id = Id::Number(self.number(id)?);
        }
        for bind in config.binds.iter_mut().flatten() {
            // One without a colon is told by whoever reads it.
            if let Some((source, rest)) = bind.split_once(':')
                && let Some(place) =
                    self.place(source, || rest.split([':', ',']).any(|option| option == "ro"))?
            {
                *bind = format!("{place}:{rest}");
            }
        }
        for mount in config.mounts.iter_mut().flatten().filter(|mount| is_bind(mount)) {
            let is_read = || mount.options.iter().any(|option| option == "ro");
            if let Some(place) = self.place(mount.source.as_deref().unwrap_or("/"), is_read)? {
                mount.source = Some(place);
            }
        }
        Ok(config)
    }

    /// Where a volume is; none for a path.
    fn place(&self, source: &str, is_read: impl Fn() -> bool) -> Result<Option<String>, NameError> {
        if source.starts_with('/') {
            return Ok(None);
        }
        match self.volumes.get(source) {
            None => Err(NameError::Volume(source.to_owned())),
            Some(true) if !is_read() => Err(NameError::ReadOnly(source.to_owned())),
            Some(_) => Ok(Some(format!("/{VOLUMES}/{source}/merged"))),
        }
    }
}

fn is_bind(mount: &MountSpec) -> bool {
    mount.kind.as_deref() == Some("bind")
        || mount.options.iter().any(|option| option == "bind" || option == "rbind")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let text = "{volumes: [{name: data}, {name: base, image: x, readonly: true}], \
                    onboot: [{name: a, image: x}], services: [{name: b, image: x}, {name: c, image: x}]}";
        Names::of(&Definition::parse("a.yml", text).unwrap())
    }

    fn config(yaml: &str) -> ImageConfig {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn names_become_numbers_and_paths() {
        let named = "{uid: b, gid: 7, additionalGids: [a, 8], binds: ['data:/d', '/x:/y', 'base:/b:nosuid,ro'], \
                     mounts: [{type: bind, source: data, destination: /e}, {type: tmpfs, source: tmpfs, destination: /t}]}";
        let plain = "{uid: 101, gid: 7, additionalGids: [100, 8], \
                     binds: ['/containers/volumes/data/merged:/d', '/x:/y', '/containers/volumes/base/merged:/b:nosuid,ro'], \
                     mounts: [{type: bind, source: /containers/volumes/data/merged, destination: /e}, \
                     {type: tmpfs, source: tmpfs, destination: /t}]}";
        assert_eq!(names().resolve(config(named)).unwrap(), config(plain));
    }

    /// As a label can have them; in a definition they are told with their lines.
    #[test]
    fn what_stands_for_nothing_is_refused_by_name() {
        let refused = |yaml| names().resolve(config(yaml)).unwrap_err();
        assert_eq!(refused("uid: d"), NameError::Id("d".into()));
        assert_eq!(refused("binds: ['none:/d']"), NameError::Volume("none".into()));
        assert_eq!(refused("binds: ['base:/ro']"), NameError::ReadOnly("base".into()));
        assert_eq!(
            refused("mounts: [{type: bind, source: base, destination: /b}]"),
            NameError::ReadOnly("base".into())
        );
    }
}
