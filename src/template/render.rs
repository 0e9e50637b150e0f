//! Fills in a template.

use serde_json::Value;

use super::functions;
use super::tree::{Base, Block, Command, Node, Operand, Pipeline};
use super::value::Item;
use super::{Reader, TemplateError};

/// How many texts, actions and values a template may come to: lists may be long, and go through each other.
const LONGEST: usize = 5_000_000;

type Rendered<T> = Result<T, TemplateError>;

pub(super) fn render<'a>(body: &'a Block, root: &Item<'a>, reader: Reader) -> Rendered<String> {
    let mut renderer =
        Renderer { text: String::new(), variables: vec![("", root.clone())], steps: 0, reader };
    renderer.block(body, root)?;
    Ok(renderer.text)
}

struct Renderer<'a> {
    text: String,
    /// Those that there are now; the first is `$`.
    variables: Vec<(&'a str, Item<'a>)>,
    steps: usize,
    reader: Reader,
}

/// How a block was left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    AtEnd,
    Break,
    Continue,
}

impl<'a> Renderer<'a> {
    fn step(&mut self, column: usize) -> Rendered<()> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > LONGEST {
            return Err(TemplateError::new(column, "it goes on for too long; look at less"));
        }
        Ok(())
    }

    fn block(&mut self, block: &'a Block, dot: &Item<'a>) -> Rendered<Left> {
        let known = self.variables.len();
        for node in block {
            let left = self.node(node, dot)?;
            if left != Left::AtEnd {
                self.variables.truncate(known);
                return Ok(left);
            }
        }
        self.variables.truncate(known);
        Ok(Left::AtEnd)
    }

    fn node(&mut self, node: &'a Node, dot: &Item<'a>) -> Rendered<Left> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.text.push_str(&value.shown());
                }
            }
            Node::If { branches, otherwise } => return self.branches(branches, otherwise, dot, false),
            Node::With { branches, otherwise } => return self.branches(branches, otherwise, dot, true),
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Left::Break),
            Node::Continue => return Ok(Left::Continue),
        }
        Ok(Left::AtEnd)
    }

    fn branches(
        &mut self,
        branches: &'a [(Pipeline, Block)],
        otherwise: &'a Block,
        dot: &Item<'a>,
        moves_dot: bool,
    ) -> Rendered<Left> {
        let known = self.variables.len();
        let mut chosen = (otherwise, dot.clone());
        for (condition, body) in branches {
            let value = self.pipeline(condition, dot)?;
            if value.is_true() {
                chosen = (body, if moves_dot { value } else { dot.clone() });
                break;
            }
        }
        let left = self.block(chosen.0, &chosen.1)?;
        self.variables.truncate(known);
        Ok(left)
    }

    fn range(
        &mut self,
        over: &'a Pipeline,
        body: &'a Block,
        otherwise: &'a Block,
        dot: &Item<'a>,
    ) -> Rendered<Left> {
        let known = self.variables.len();
        let value = self.evaluate(&over.commands, dot)?;
        let count = value.value.as_u64();
        let mut numbers =
            (0..count.unwrap_or(0)).map(|n| (Item::from(Value::from(n)), Value::from(n).into()));
        let mut entries = Vec::new().into_iter();
        if count.is_none() {
            let found = value.entries().ok_or_else(|| {
                let problem = format!(
                    "range goes through lists, maps and up to a number, and this is {}",
                    value.kind()
                );
                TemplateError::new(over.column, problem)
            })?;
            entries = found.into_iter();
        }
        let mut is_empty = true;
        while let Some((key, entry)) = numbers.next().or_else(|| entries.next()) {
            is_empty = false;
            self.step(over.column)?;
            match over.variables.as_slice() {
                [] => {}
                [one] => self.set(one, entry.clone(), over.assigns),
                [first, second, ..] => {
                    self.set(first, key, over.assigns);
                    self.set(second, entry.clone(), over.assigns);
                }
            }
            let left = self.block(body, &entry)?;
            self.variables.truncate(known);
            if left == Left::Break {
                break;
            }
        }
        if is_empty {
            return self.block(otherwise, dot);
        }
        Ok(Left::AtEnd)
    }

    fn set(&mut self, name: &'a str, value: Item<'a>, assigns: bool) {
        if assigns && let Some(known) = self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            known.1 = value;
        } else {
            self.variables.push((name, value));
        }
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Item<'a>) -> Rendered<Item<'a>> {
        let value = self.evaluate(&pipeline.commands, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    /// Each command is given what the one before it made.
    fn evaluate(&mut self, commands: &'a [Command], dot: &Item<'a>) -> Rendered<Item<'a>> {
        let mut last = None;
        for command in commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or_else(Item::nothing))
    }

    fn command(
        &mut self,
        command: &'a Command,
        last: Option<Item<'a>>,
        dot: &Item<'a>,
    ) -> Rendered<Item<'a>> {
        let Some((first, rest)) = command.operands.split_first() else { return Ok(Item::nothing()) };
        let Base::Function(name) = &first.base else { return self.operand(first, dot) };
        self.step(first.column)?;
        if matches!(name.as_str(), "and" | "or") {
            return self.first(first, rest, last, dot);
        }
        let arguments: Rendered<Vec<_>> = rest.iter().map(|operand| self.operand(operand, dot)).collect();
        let mut arguments = arguments?;
        arguments.extend(last);
        self.call(first.column, name, &arguments)
    }

    fn call(&self, column: usize, name: &str, arguments: &[Item<'a>]) -> Rendered<Item<'a>> {
        let called = functions::call(name, arguments, self.reader);
        called.map_err(|problem| TemplateError::new(column, problem))
    }

    /// `and` and `or`: the first value that decides, behind which nothing is looked at.
    fn first(
        &mut self,
        function: &'a Operand,
        operands: &'a [Operand],
        last: Option<Item<'a>>,
        dot: &Item<'a>,
    ) -> Rendered<Item<'a>> {
        let is_or = function.base == Base::Function("or".to_owned());
        let mut value = None;
        for operand in operands {
            let found = self.operand(operand, dot)?;
            if found.is_true() == is_or {
                return Ok(found);
            }
            value = Some(found);
        }
        let missing = || TemplateError::new(function.column, "this function takes one value or more");
        last.or(value).ok_or_else(missing)
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Item<'a>) -> Rendered<Item<'a>> {
        self.step(operand.column)?;
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or_else(Item::nothing, |(_, value)| value.clone())
            }
            Base::Literal(value) => Item::of(value, &super::Shape::Any),
            Base::Function(name) => self.call(operand.column, name, &[])?,
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        for (column, name) in &operand.fields {
            value = value.field(name).map_err(|problem| TemplateError::new(*column, problem))?;
        }
        Ok(value)
    }
}
