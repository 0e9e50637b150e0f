//! Users and groups, by number or by a container's name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// None for a name: what it stands for says the definition.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_) => None,
        }
    }

    /// Root, which nobody has to write.
    pub(super) fn is_root(&self) -> bool {
        *self == Self::Number(0)
    }
}
