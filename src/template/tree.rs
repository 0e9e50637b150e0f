//! What a template is made of.

use serde_json::Value;

pub(super) type Block = Vec<Node>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    /// Each condition with its block, and what is left.
    If {
        branches: Vec<(Pipeline, Block)>,
        otherwise: Block,
    },
    With {
        branches: Vec<(Pipeline, Block)>,
        otherwise: Block,
    },
    Range {
        over: Pipeline,
        body: Block,
        otherwise: Block,
    },
    Break,
    Continue,
}

/// `$a, $b := COMMAND | COMMAND`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) column: usize,
    pub(super) variables: Vec<String>,
    /// `=`, and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function with what it is given.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) column: usize,
    pub(super) base: Base,
    /// `.A.B` behind it, each with its column.
    pub(super) fields: Vec<(usize, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Pipeline(Box<Pipeline>),
}

/// What of the value a template looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    Whole,
    Field(String),
}
