//! The image object: a container of the appliance.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Document, Id, Resources, Runtime, schema, validate};
use crate::yaml::{self, Problems};

/// Declares the image object twice from one list of fields: as it stands in a definition, with a name and an image, and
/// as it stands in an image's own configuration, without them. serde cannot both flatten and refuse unknown fields.
macro_rules! image_object {
    ($($(#[$meta:meta])* $name:literal $field:ident: $type:ty,)*) => {
        /// A container: an entry of `onboot`, `onshutdown` or `services`. A field that is given replaces the image's own.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Image {
            /// What it is called: the name of a directory, and of a control group.
            #[schemars(extend("format" = "name"))]
            pub name: String,
            /// The image that it is made of.
            #[schemars(extend("format" = "image"))]
            pub image: String,
            /// Added to the image's own capabilities; without effect beside `capabilities`.
            #[schemars(extend("format" = "capability"))]
            #[serde(rename = "capabilities.add", default, skip_serializing_if = "Option::is_none")]
            pub capabilities_add: Option<Vec<String>>,
            /// Added to the image's own binds; without effect beside `binds`.
            #[schemars(extend("format" = "bind"))]
            #[serde(rename = "binds.add", default, skip_serializing_if = "Option::is_none")]
            pub binds_add: Option<Vec<String>>,
            $($(#[$meta])* #[serde(rename = $name, default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }

        /// An image's own defaults (its label `org.mobyproject.config`): a container without `name` and `image`.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct ImageConfig {
            $($(#[$meta])* #[serde(rename = $name, default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }

        impl ImageConfig {
            /// Each field of this one, else of what lies below it.
            pub(crate) fn over(&self, below: &Self) -> Self {
                let mut merged = Self {
                    $($field: self.$field.clone().or_else(|| below.$field.clone()),)*
                };
                if let (Some(given), Some(own)) = (&self.runtime, &below.runtime) {
                    merged.runtime = Some(given.merged_with(own));
                }
                merged
            }
        }

        impl Image {
            /// What holds for the container: each field of the definition, else the image's.
            #[must_use]
            pub fn merged_with(&self, own: &ImageConfig) -> ImageConfig {
                let given = ImageConfig { $($field: self.$field.clone(),)* };
                let mut merged = given.over(own);
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
    /// What its processes may do beyond what everybody may: `CAP_...`, or `all`. None unless given.
    #[schemars(extend("format" = "capability"))]
    "capabilities" capabilities: Vec<String>,
    /// Capabilities that programs of a user other than root keep.
    #[schemars(extend("format" = "capability"))]
    "ambient" ambient: Vec<String>,
    /// What is mounted in it, beside `/proc`, `/dev`, `/dev/pts`, `/sys` and `/sys/fs/cgroup`.
    "mounts" mounts: Vec<MountSpec>,
    /// Files and directories of the machine, or volumes, that it sees: `SOURCE:DESTINATION[:OPTIONS]`.
    #[schemars(extend("format" = "bind"))]
    "binds" binds: Vec<String>,
    /// Devices that it has.
    "devices" devices: Vec<DeviceSpec>,
    /// Directories in memory: `DESTINATION[:OPTIONS]`.
    #[schemars(extend("format" = "tmpfs"))]
    "tmpfs" tmpfs: Vec<String>,
    /// The program and its arguments.
    "command" command: Vec<String>,
    /// The environment: `NAME=VALUE`.
    "env" env: Vec<String>,
    /// The working directory.
    "cwd" cwd: String,
    /// The network namespace: `host`, `new`, `none` or the path of one. The machine's unless given.
    #[schemars(extend("format" = "namespace"))]
    "net" net: String,
    /// The process namespace. A new one unless given.
    #[schemars(extend("format" = "namespace"))]
    "pid" pid: String,
    /// The namespace of System V's and POSIX' messages. The machine's unless given.
    #[schemars(extend("format" = "namespace"))]
    "ipc" ipc: String,
    /// The namespace of the host name. The machine's unless given.
    #[schemars(extend("format" = "namespace"))]
    "uts" uts: String,
    /// The user namespace. The machine's unless given.
    #[schemars(extend("format" = "namespace"))]
    "userns" userns: String,
    /// Whether its root is read-only.
    "readonly" readonly: bool,
    /// Paths that it does not see.
    "maskedPaths" masked_paths: Vec<String>,
    /// Paths that it cannot write to.
    "readonlyPaths" readonly_paths: Vec<String>,
    /// The user that it runs as. Root unless given.
    "uid" uid: Id,
    /// The group that it runs as. Root's unless given.
    "gid" gid: Id,
    /// More groups.
    "additionalGids" additional_gids: Vec<Id>,
    /// Whether programs gain nothing by set-user-ID bits and file capabilities.
    "noNewPrivileges" no_new_privileges: bool,
    /// The host name, in a new `uts`.
    "hostname" hostname: String,
    /// How readily the kernel ends it when memory is short, from -1000 to 1000.
    "oomScoreAdj" oom_score_adj: i32,
    /// How mounts spread from and to it: `shared`, `slave`, `private`, `unbindable`.
    "rootfsPropagation" rootfs_propagation: String,
    /// Its control group. `/mvm/NAME` unless given.
    "cgroupsPath" cgroups_path: String,
    /// What it may use.
    "resources" resources: Resources,
    /// Kernel parameters of its namespaces.
    "sysctl" sysctl: BTreeMap<String, String>,
    /// Limits of its processes: `NAME,SOFT,HARD`, each a number or `unlimited`.
    #[schemars(extend("format" = "rlimit"))]
    "rlimits" rlimits: Vec<String>,
    /// Which users of the machine its users are, in a new `userns`.
    "uidMappings" uid_mappings: Vec<IdMapping>,
    /// The same for groups.
    "gidMappings" gid_mappings: Vec<IdMapping>,
    /// Texts for whoever reads its description.
    "annotations" annotations: BTreeMap<String, String>,
    /// What init does around it.
    "runtime" runtime: Runtime,
}

impl ImageConfig {
    /// An image's label: YAML or JSON. What adds to a list has nothing there to add to, and is passed over, as LinuxKit does.
    pub(crate) fn parse_label(what: &str, text: &str) -> Result<Self, Problems> {
        let document = Document { file: what, text, directory: Path::new(""), is_local: false };
        let mut node = yaml::compose(what, text)?;
        if let yaml::Value::Map(pairs) = &mut node.value {
            pairs.retain(|pair| !pair.key.ends_with(".add"));
        }
        let (config, problems) = validate::against(schema::of_label(), &document, &node, "the label");
        problems.or(config.unwrap_or_default())
    }
}

/// A mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// Where.
    pub destination: String,
    /// The file system's type. Always needed in `mounts`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What: a device, a directory for the type `bind`, or the name of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// As `mount -o` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Which users the mount's files belong to.
    #[serde(rename = "uidMappings", default, skip_serializing_if = "Option::is_none")]
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// The same for groups.
    #[serde(rename = "gidMappings", default, skip_serializing_if = "Option::is_none")]
    pub gid_mappings: Option<Vec<IdMapping>>,
}

/// Users or groups one after the other, and who they are in the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// The first in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first in the machine.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// A device of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Where it is; `all` allows every device of the type, and makes none.
    pub path: String,
    /// `b` for a block, `c` or `u` for a character device, `p` for a named pipe, `a` for all.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["a", "b", "c", "u", "p"]))]
    pub kind: String,
    #[serde(default)]
    pub major: i64,
    #[serde(default)]
    pub minor: i64,
    /// Octal permissions of the file; what is allowed (`rwm`) for the path `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "device-mode"))]
    pub mode: Option<String>,
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
    fn a_label_is_a_container_without_name_and_image() {
        let label = |text| ImageConfig::parse_label("the label of x", text);
        let config = label("{\"binds\": [\"/a:/b\"], \"capabilities.add\": [\"CAP_KILL\"], \"runtime\": {\"mkdir\": [\"/c\"]}}").unwrap();
        assert_eq!((config.binds, config.capabilities), (Some(vec!["/a:/b".to_owned()]), None));
        assert_eq!(label("").unwrap(), ImageConfig::default());
        let message = label("binds: [/a]\nname: x\n").unwrap_err().to_string();
        assert!(message.contains("cannot parse bind \"/a\", missing ':' at the label of x:1:9"), "{message}");
        assert!(message.contains("unknown field `name` at the label of x:2:1"), "{message}");
    }

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

        let runtime = |yaml| Some(serde_yaml::from_str::<Runtime>(yaml).unwrap());
        let own = ImageConfig { runtime: runtime("{mkdir: [/a], cgroups: [a]}"), ..ImageConfig::default() };
        let image = Image { runtime: runtime("{mkdir: []}"), ..Image::default() };
        assert_eq!(image.merged_with(&own).runtime, runtime("{mkdir: [], cgroups: [a]}"));
    }
}
