//! When the data disk is too full for a builder, and what to say then.

use super::protocol::Usage;

const MIB: u64 = 1024 * 1024;
/// With less, builds fail before long.
const LITTLE: u64 = 256 * MIB;

impl Usage {
    /// What to tell the user of a disk on which little is left.
    pub fn disk_warning(&self) -> Option<String> {
        (self.disk_available_bytes < LITTLE).then(|| {
            format!(
                "the data disk is full ({} of {} MiB are free): remove what is not needed (`docker -H unix://... system prune`; \
                 `mvm env` prints the socket), or give it more room: `mvm down`, then `mvm up --disk` with a larger size",
                self.disk_available_bytes / MIB,
                self.disk_total_bytes / MIB,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MIB, Usage};

    #[test]
    fn full_disk_says_what_to_do() {
        let usage = |free: u64| Usage {
            memory_total_bytes: 0,
            memory_available_bytes: 0,
            disk_total_bytes: 2000 * MIB,
            disk_available_bytes: free * MIB,
        };
        assert_eq!(usage(256).disk_warning(), None);
        let warning = usage(3).disk_warning().unwrap();
        assert!(
            warning.starts_with("the data disk is full (3 of 2000 MiB are free): remove what"),
            "{warning}"
        );
        assert!(warning.ends_with("`mvm down`, then `mvm up --disk` with a larger size"), "{warning}");
    }
}
