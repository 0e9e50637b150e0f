//! Templates as Docker's clients take them: Go's `text/template`, over JSON. There are no templates inside of templates (`define`,
//! `template`, `block`), and no methods.
//!
//! JSON has no types, so whoever evaluates says with a [`Shape`] what Go's clients would have there: it tells what an absent field is.

mod functions;
mod lexer;
mod parser;
mod printf;
mod render;
mod tree;
mod value;

use serde_json::Value;

pub(crate) use value::{Field, Shape};

use tree::{Block, Root};
use value::Item;

/// What is made of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A page: `json` takes as many lines as it likes.
    Page,
    /// A line among others.
    Line,
    /// The head of columns: what changes a text leaves it, as Docker's clients have it.
    Head,
}

/// A template that was read, and can be filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    body: Block,
    /// What is looked at of the value.
    roots: Vec<Root>,
}

/// What is wrong with a template, or with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the template: {problem}")]
pub(crate) struct TemplateError {
    /// From 1, in characters.
    column: usize,
    problem: String,
}

impl TemplateError {
    fn new(column: usize, problem: impl Into<String>) -> Self {
        Self { column, problem: problem.into() }
    }
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parser::parse(lexer::lex(text)?)
    }

    /// Whether it looks at this field of the value that it is given; one that takes the value whole does.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.roots.iter().any(|root| match root {
            Root::Whole => true,
            Root::Field(name) => name.eq_ignore_ascii_case(field),
        })
    }

    /// The fields that it looks at by name.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().filter_map(|root| match root {
            Root::Whole => None,
            Root::Field(name) => Some(name.as_str()),
        })
    }

    pub(crate) fn render(&self, value: &Value, shape: &'static Shape) -> Result<String, TemplateError> {
        self.render_for(value, shape, Reader::Page)
    }

    pub(crate) fn render_for(
        &self,
        value: &Value,
        shape: &'static Shape,
        reader: Reader,
    ) -> Result<String, TemplateError> {
        render::render(&self.body, &Item::of(value, shape), reader)
    }
}

#[cfg(test)]
mod tests;
