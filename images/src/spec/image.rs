//! The image object: a container of the appliance.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

/// Declares the image object twice from one list of fields: as it stands in a definition, with a name and an image, and
/// as it stands in an image's own configuration, without them. serde cannot both flatten and refuse unknown fields.
macro_rules! image_object {
    ($($(#[$meta:meta])* $name:literal $field:ident: $type:ty,)*) => {
        /// An entry of `onboot` or `services`. A field that is given replaces the image's own.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Image {
            pub name: String,
            pub image: String,
            /// Added to the image's own capabilities.
            #[serde(rename = "capabilities.add", default, skip_serializing_if = "Option::is_none")]
            pub capabilities_add: Option<Vec<String>>,
            /// Added to the image's own binds.
            #[serde(rename = "binds.add", default, skip_serializing_if = "Option::is_none")]
            pub binds_add: Option<Vec<String>>,
            $($(#[$meta])* #[serde(rename = $name, default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }

        /// An image's own defaults (`org.mobyproject.config`): an image object without `name` and `image`.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct ImageConfig {
            $($(#[$meta])* #[serde(rename = $name, default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }

        impl Image {
            /// What holds for the container: each field of the definition, else the image's.
            #[must_use]
            pub fn merged_with(&self, own: &ImageConfig) -> ImageConfig {
                let mut merged = ImageConfig {
                    $($field: self.$field.clone().or_else(|| own.$field.clone()),)*
                };
                if self.capabilities.is_none() {
                    append(&mut merged.capabilities, self.capabilities_add.as_deref());
                }
                if self.binds.is_none() {
                    append(&mut merged.binds, self.binds_add.as_deref());
                }
                merged
            }
        }
    };
}

image_object! {
    "capabilities" capabilities: Vec<String>,
    "ambient" ambient: Vec<String>,
    "mounts" mounts: Vec<MountSpec>,
    "binds" binds: Vec<String>,
    "devices" devices: Vec<DeviceSpec>,
    "tmpfs" tmpfs: Vec<String>,
    "command" command: Vec<String>,
    "env" env: Vec<String>,
    "cwd" cwd: String,
    "net" net: String,
    "pid" pid: String,
    "ipc" ipc: String,
    "uts" uts: String,
    "userns" userns: String,
    "readonly" readonly: bool,
    "maskedPaths" masked_paths: Vec<String>,
    "readonlyPaths" readonly_paths: Vec<String>,
    "uid" uid: Id,
    "gid" gid: Id,
    "additionalGids" additional_gids: Vec<u32>,
    "noNewPrivileges" no_new_privileges: bool,
    "hostname" hostname: String,
    "oomScoreAdj" oom_score_adj: i32,
    "rootfsPropagation" rootfs_propagation: String,
    "cgroupsPath" cgroups_path: String,
    "resources" resources: LinuxResources,
    "sysctl" sysctl: BTreeMap<String, String>,
    "rlimits" rlimits: Vec<String>,
    "annotations" annotations: BTreeMap<String, String>,
    "runtime" runtime: Runtime,
}

/// A user or group by its number.
pub type Id = u32;

/// A mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    pub destination: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default)]
    pub options: Vec<String>,
}

/// A device of a container; the path `all` allows every device of the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub major: i64,
    #[serde(default)]
    pub minor: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What init does around the container: the part of LinuxKit's `Runtime` that it serves, written to `runtime.json` as it
/// is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<MountSpec>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mkdir: Option<Vec<String>>,
}

fn append(list: &mut Option<Vec<String>>, more: Option<&[String]>) {
    if let Some(more) = more {
        list.get_or_insert_default().extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_field_replaces_and_an_added_one_appends() {
        let own = ImageConfig {
            binds: Some(vec!["/a:/a".into()]),
            capabilities: Some(vec!["CAP_KILL".into()]),
            net: Some("host".into()),
            ..ImageConfig::default()
        };
        let image = Image {
            binds: Some(vec![]),
            binds_add: Some(vec!["/b:/b".into()]),
            capabilities_add: Some(vec!["CAP_CHOWN".into()]),
            ..Image::default()
        };
        let merged = image.merged_with(&own);
        assert_eq!(merged.binds, Some(vec![]));
        assert_eq!(merged.capabilities, Some(vec!["CAP_KILL".into(), "CAP_CHOWN".into()]));
        assert_eq!(merged.net.as_deref(), Some("host"));
    }
}
