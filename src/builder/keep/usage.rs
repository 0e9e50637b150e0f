//! The cache of a builder: what is in it, and what goes.

use bollard_buildkit_proto::moby::buildkit::v1::{DiskUsageRequest, PruneRequest, UsageRecord};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Filter, KeepError, Keeper, refused, time};
use crate::printable::printable;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub id: String,
    pub size: u64,
    pub reclaimable: bool,
    pub mutable: bool,
    pub shared: bool,
    pub created: Option<DateTime<Utc>>,
    pub last_used: Option<DateTime<Utc>>,
    pub usage_count: u64,
    /// "regular", "source.local", "exec.cachemount", ...
    pub kind: String,
    pub description: String,
    pub parents: Vec<String>,
}

/// How much is left when a cache is pruned; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Records of images that builds use still, and of the builder itself, go too.
    pub all: bool,
    /// So much is never taken.
    pub reserved: u64,
    /// So much is left at most.
    pub max_used: u64,
    /// The disk has so much free afterwards.
    pub min_free: u64,
}

impl Keeper {
    /// What the cache holds, the largest first.
    pub async fn usage(&mut self, filters: &[Filter]) -> Result<Vec<Usage>, KeepError> {
        let age_limit = nanoseconds(filters);
        let request = DiskUsageRequest { filter: Filter::joined(filters), age_limit };
        let records = self.control.disk_usage(request).await.map_err(|status| refused(&status))?;
        let mut usage: Vec<_> = records.into_inner().record.into_iter().map(Usage::from).collect();
        usage.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
        Ok(usage)
    }

    /// Takes from the cache; each record is told of when it is gone.
    pub async fn prune(
        &mut self,
        filters: &[Filter],
        limits: Limits,
        mut gone: impl FnMut(Usage),
    ) -> Result<(), KeepError> {
        let request = PruneRequest {
            filter: Filter::joined(filters),
            all: limits.all,
            keep_duration: nanoseconds(filters),
            reserved_space: signed(limits.reserved),
            max_used_space: signed(limits.max_used),
            min_free_space: signed(limits.min_free),
        };
        let mut records = self.control.prune(request).await.map_err(|status| refused(&status))?.into_inner();
        while let Some(record) = records.message().await.map_err(|status| refused(&status))? {
            gone(record.into());
        }
        Ok(())
    }
}

fn nanoseconds(filters: &[Filter]) -> i64 {
    Filter::until(filters).map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl From<UsageRecord> for Usage {
    fn from(record: UsageRecord) -> Self {
        Self {
            id: printable(&record.id),
            size: u64::try_from(record.size).unwrap_or_default(),
            reclaimable: !record.in_use,
            mutable: record.mutable,
            shared: record.shared,
            created: time(record.created_at),
            last_used: time(record.last_used_at),
            usage_count: u64::try_from(record.usage_count).unwrap_or_default(),
            kind: printable(&record.record_type),
            description: printable(&record.description),
            parents: record.parents.iter().map(|parent| printable(parent)).collect(),
        }
    }
}
