//! What init does around a container.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MountSpec;

/// What init does before a container starts and after it was made; written to its `runtime.json` as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Runtime {
    /// Control groups to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<Vec<String>>,
    /// What to mount in the machine's own root, before the container's root is put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<MountSpec>>,
    /// Directories to make in the machine's own root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mkdir: Option<Vec<String>>,
    /// Network interfaces to make, or to move into the container's network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<Interface>>,
    /// Where to keep the container's namespaces, for others to join.
    #[serde(rename = "bindNS", skip_serializing_if = "Option::is_none")]
    pub bind_ns: Option<BindNs>,
    /// containerd's namespace for the container. Without effect: its containers are run by init.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl Runtime {
    /// Each field of this one, else of the image's.
    pub(super) fn merged_with(&self, own: &Self) -> Self {
        // All fields by name: a new one has to be thought of here.
        let Self { cgroups, mounts, mkdir, interfaces, bind_ns, namespace } = self.clone();
        Self {
            cgroups: cgroups.or_else(|| own.cgroups.clone()),
            mounts: mounts.or_else(|| own.mounts.clone()),
            mkdir: mkdir.or_else(|| own.mkdir.clone()),
            interfaces: interfaces.or_else(|| own.interfaces.clone()),
            bind_ns: bind_ns.or_else(|| own.bind_ns.clone()),
            namespace: namespace.or_else(|| own.namespace.clone()),
        }
    }
}

/// A network interface of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// The kind of interface to make, one that the kernel has: `veth`, `dummy`, `bridge`. Without it, the machine's interface
    /// of this name is moved, or a `veth` is made where there is a `peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<String>,
    /// The other end of a `veth`, which stays in the machine's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Make it in the machine's namespace and move it: what WireGuard wants, to keep its socket there. A `veth` always is.
    #[serde(default)]
    pub create_in_root: bool,
}

/// For each kind of namespace the path to bind it to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BindNs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mnt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
}
