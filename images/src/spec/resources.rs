//! The limits of a container: the runtime specification's `linux.resources`, and LinuxKit's spelling of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a type whose fields are all optional, with the names of the runtime specification.
macro_rules! limits {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $key:literal $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(rename = $key, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }
    )*};
}

limits! {
    /// What a container may use.
    Resources {
        /// Devices that it may use or not, in this order.
        "devices" devices: Vec<DeviceRule>,
        "memory" memory: Memory,
        "cpu" cpu: Cpu,
        "pids" pids: Pids,
        "blockio" block_io: BlockIo,
        "hugepageLimits" hugepage_limits: Vec<HugepageLimit>,
        "network" network: Network,
        "rdma" rdma: BTreeMap<String, Rdma>,
        /// Files of cgroup v2 and what to write to them.
        "unified" unified: BTreeMap<String, String>,
    }

    /// One rule about devices.
    DeviceRule {
        "allow" allow: bool,
        /// `a` for all, `b` for block, `c` for character devices.
        "type" kind: String,
        "major" major: i64,
        "minor" minor: i64,
        /// Of `r`, `w` and `m` for making it.
        "access" access: String,
    }

    /// Memory, in bytes.
    Memory {
        "limit" limit: i64,
        "reservation" reservation: i64,
        "swap" swap: i64,
        "kernel" kernel: i64,
        "kernelTCP" kernel_tcp: i64,
        "swappiness" swappiness: u64,
        "disableOOMKiller" disable_oom_killer: bool,
        "useHierarchy" use_hierarchy: bool,
        "checkBeforeUpdate" check_before_update: bool,
    }

    /// Processor time, in microseconds.
    Cpu {
        "shares" shares: u64,
        "quota" quota: i64,
        "burst" burst: u64,
        "period" period: u64,
        "realtimeRuntime" realtime_runtime: i64,
        "realtimePeriod" realtime_period: u64,
        "cpus" cpus: String,
        "mems" mems: String,
        "idle" idle: i64,
    }

    /// Processes.
    Pids {
        "limit" limit: i64,
    }

    /// Block devices.
    BlockIo {
        "weight" weight: u16,
        "leafWeight" leaf_weight: u16,
        "weightDevice" weight_device: Vec<WeightDevice>,
        "throttleReadBpsDevice" throttle_read_bps_device: Vec<ThrottleDevice>,
        "throttleWriteBpsDevice" throttle_write_bps_device: Vec<ThrottleDevice>,
        "throttleReadIOPSDevice" throttle_read_iops_device: Vec<ThrottleDevice>,
        "throttleWriteIOPSDevice" throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    /// The weight of one block device.
    WeightDevice {
        "major" major: i64,
        "minor" minor: i64,
        "weight" weight: u16,
        "leafWeight" leaf_weight: u16,
    }

    /// The rate of one block device.
    ThrottleDevice {
        "major" major: i64,
        "minor" minor: i64,
        "rate" rate: u64,
    }

    /// Huge pages of one size.
    HugepageLimit {
        "pageSize" page_size: String,
        "limit" limit: i64,
    }

    /// The network, by cgroup v1's controllers.
    Network {
        "classID" class_id: u32,
        "priorities" priorities: Vec<InterfacePriority>,
    }

    /// The priority of one network interface.
    InterfacePriority {
        "name" name: String,
        "priority" priority: u32,
    }

    /// One RDMA device.
    Rdma {
        "hcaHandles" hca_handles: u32,
        "hcaObjects" hca_objects: u32,
    }
}
