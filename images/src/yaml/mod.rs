//! YAML as it is written: a tree that knows where each of its parts stands, so that whatever is wrong with it can be shown.
//!
//! Aliases are resolved here, and keys are texts that stand once in their mapping. What a scalar means depends on who reads
//! it; what YAML's core schema takes it for is [`Scalar::kind`].

mod compose;
mod problem;
mod scalar;

use std::fmt;

pub(crate) use compose::compose;
pub use problem::{Problem, Problems};
pub(crate) use scalar::{Kind, Scalar};

/// Where something stands: line and column from 1 on, and how many characters of its line it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Pair>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(pairs) = &self.value else { return None };
        pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value)
    }

    /// The entries of the list below a key; none if there is no such list.
    pub(crate) fn list(&self, key: &str) -> &[Self] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::List(nodes)) => nodes,
            _ => &[],
        }
    }

    /// The text of the scalar below a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, for a message.
    pub(crate) fn what(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) => scalar.kind().what(),
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}
