//! Users and groups, by number or by a container's name.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Definition;

/// A user or group: its number, or the name of a container of this definition, each of which has a number of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Id {
    Number(u32),
    Name(String),
}

impl Default for Id {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Id {
    /// Root, which nobody has to write.
    pub(super) fn is_root(&self) -> bool {
        *self == Self::Number(0)
    }
}

/// The number of each container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(BTreeMap<String, u32>);

/// Below are those that systems give to users of their own.
const FIRST: u32 = 100;

impl Ids {
    /// LinuxKit's: one after the other, and of the same name the last.
    pub(crate) fn of(definition: &Definition) -> Self {
        Self(definition.containers().map(|image| image.name.clone()).zip(FIRST..).collect())
    }

    /// None for a name that no container has.
    pub(crate) fn number(&self, id: &Id) -> Option<u32> {
        match id {
            Id::Number(number) => Some(*number),
            Id::Name(name) => self.0.get(name).copied(),
        }
    }
}
