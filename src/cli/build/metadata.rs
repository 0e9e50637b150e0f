//! What `--metadata-file` says of a build beside what its exporters said, as tools that know buildx look for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::builder::progress::Graph;
use crate::builder::{Endpoint, Keeper, truth};
use crate::chain::Chain;

/// How long a builder may take to tell it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a build's provenance is wanted (`BUILDX_METADATA_PROVENANCE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provenance {
    /// What it was built from, and not how.
    Min,
    Max,
    None,
}

impl Provenance {
    pub(super) fn wanted() -> Result<Self, String> {
        Self::named(&std::env::var("BUILDX_METADATA_PROVENANCE").unwrap_or_default())
    }

    fn named(word: &str) -> Result<Self, String> {
        match (word, truth(word)) {
            ("" | "min", _) | (_, Ok(true)) => Ok(Self::Min),
            ("max", _) => Ok(Self::Max),
            ("disabled", _) | (_, Ok(false)) => Ok(Self::None),
            (other, Err(_)) => {
                Err(format!("BUILDX_METADATA_PROVENANCE is {other:?}; it may be min, max or disabled"))
            }
        }
    }

    /// That of a build, as its builder remembers it. The build is done, so where there is none it is only said.
    pub(super) async fn of(self, build: &str, endpoint: &Endpoint) -> BTreeMap<String, Value> {
        if self == Self::None {
            return BTreeMap::new();
        }
        let asked = async { Keeper::at(endpoint).await?.provenance(build).await };
        let why = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(all)) => return self.of_predicates(all),
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => format!("it says nothing for {} s", PATIENCE.as_secs()),
        };
        eprintln!("the metadata file has no provenance, as the builder does not tell it: {why}");
        BTreeMap::new()
    }

    fn of_predicates(self, mut all: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        for predicate in all.values_mut().filter_map(Value::as_object_mut) {
            if self == Self::Min {
                predicate.remove("buildConfig");
                predicate.remove("metadata");
            }
        }
        all
    }
}

/// What the linter found, where it is wanted (`BUILDX_METADATA_WARNINGS`).
pub(super) fn warnings(graph: &Graph) -> BTreeMap<String, Value> {
    let is_wanted = std::env::var("BUILDX_METADATA_WARNINGS").is_ok_and(|word| truth(&word) == Ok(true));
    let found = if is_wanted { graph.warnings() } else { Vec::new() };
    if found.is_empty() {
        return BTreeMap::new();
    }
    [("buildx.build.warnings".to_owned(), found.into())].into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn least_is_what_was_built_and_from_what() {
        let all = || {
            BTreeMap::from([("p".to_owned(), json!({"buildConfig": {}, "buildType": "t", "metadata": {}}))])
        };
        let of = |provenance: Provenance| provenance.of_predicates(all()).remove("p").unwrap();
        assert_eq!(of(Provenance::Min), json!({"buildType": "t"}));
        assert_eq!(of(Provenance::Max), json!({"buildConfig": {}, "buildType": "t", "metadata": {}}));
    }

    #[test]
    fn it_is_asked_for_as_buildx_is() {
        for (word, wanted) in [
            ("", Provenance::Min),
            ("true", Provenance::Min),
            ("max", Provenance::Max),
            ("False", Provenance::None),
        ] {
            assert_eq!(Provenance::named(word), Ok(wanted), "{word}");
        }
        assert!(Provenance::named("all").unwrap_err().ends_with("it may be min, max or disabled"));
    }
}
