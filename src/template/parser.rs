//! Makes a tree of the words of a template. What is not known, a function or a variable, is found here and not when it is too late.

use super::functions::NAMES;
use super::lexer::{Placed, Token};
use super::tree::{Base, Block, Command, Node, Operand, Pipeline, Root};
use super::{Template, TemplateError};

/// How far parentheses and blocks may go into each other.
const DEEPEST: usize = 64;

type Parsed<T> = Result<T, TemplateError>;

pub(super) fn parse(tokens: Vec<Placed>) -> Parsed<Template> {
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        column: 1,
        variables: vec![String::new()],
        roots: Vec::new(),
        is_dot_root: true,
        depth: 0,
        loops: 0,
    };
    let body = parser.block(None)?.0;
    Ok(Template { body, roots: parser.roots })
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    /// Of the token that was taken last.
    column: usize,
    /// Those that there are here; the first is `$`.
    variables: Vec<String>,
    roots: Vec<Root>,
    /// Whether `.` is the value that the template is given.
    is_dot_root: bool,
    depth: usize,
    loops: usize,
}

/// What a block ended with.
#[derive(PartialEq, Eq)]
enum Ending {
    End,
    Else,
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let Placed { column, token } = self.tokens.next()?;
        self.column = column;
        Some(token)
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|placed| &placed.token)
    }

    /// The column of what comes next.
    fn here(&mut self) -> usize {
        self.tokens.peek().map_or(self.column, |placed| placed.column)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        if is_next {
            self.next();
        }
        is_next
    }

    fn expect(&mut self, token: &Token, what: &str) -> Parsed<()> {
        if self.takes(token) {
            return Ok(());
        }
        let column = self.here();
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::to_string);
        Err(TemplateError::new(column, format!("{what} is expected, and {found} stands here")))
    }

    fn deeper<T>(&mut self, of: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEEPEST {
            let problem = format!("it goes deeper than {DEEPEST} blocks and parentheses");
            return Err(TemplateError::new(self.column, problem));
        }
        let result = of(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    /// Up to the `end` or `else` of what opened it, or up to the end of the template.
    fn block(&mut self, opened: Option<(usize, &str)>) -> Parsed<(Block, Ending)> {
        let mut block = Block::new();
        while let Some(token) = self.next() {
            if let Token::Text(text) = token {
                block.push(Node::Text(text));
                continue;
            }
            let word = match self.peek() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            let column = self.here();
            match word.as_str() {
                "end" | "else" if opened.is_none() => {
                    return Err(TemplateError::new(
                        column,
                        format!("this {word} belongs to no if, with or range"),
                    ));
                }
                "end" => {
                    self.next();
                    self.expect(&Token::Right, "}}")?;
                    return Ok((block, Ending::End));
                }
                "else" => {
                    self.next();
                    return Ok((block, Ending::Else));
                }
                "if" | "with" => block.push(self.deeper(|parser| parser.condition(&word))?),
                "range" => block.push(self.deeper(Self::range)?),
                "break" | "continue" => block.push(self.leave(&word)?),
                "define" | "template" | "block" => {
                    let problem =
                        format!("{word} is for templates of several parts; write what it stands for");
                    return Err(TemplateError::new(column, problem));
                }
                _ => {
                    block.push(Node::Action(self.pipeline(false)?));
                    self.expect(&Token::Right, "}}")?;
                }
            }
        }
        match opened {
            None => Ok((block, Ending::End)),
            Some((column, word)) => {
                Err(TemplateError::new(column, format!("this {word} has no {{{{end}}}}")))
            }
        }
    }

    fn leave(&mut self, word: &str) -> Parsed<Node> {
        self.next();
        if self.loops == 0 {
            return Err(TemplateError::new(self.column, format!("this {word} is in no range")));
        }
        self.expect(&Token::Right, "}}")?;
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    /// `if` and `with`, with each `else if` or `else with`.
    fn condition(&mut self, word: &str) -> Parsed<Node> {
        self.next();
        let column = self.column;
        let known = self.variables.len();
        let (mut branches, mut otherwise) = (Vec::new(), Block::new());
        loop {
            let condition = self.pipeline(false)?;
            self.expect(&Token::Right, "}}")?;
            let (body, ending) = self.body(word == "with", column, word)?;
            branches.push((condition, body));
            if ending == Ending::End {
                break;
            }
            if self.takes(&Token::Right) {
                otherwise = self.last(column, word)?;
                break;
            }
            self.expect(&Token::Word(word.to_owned()), &format!("}}}} or {word}"))?;
        }
        self.variables.truncate(known);
        Ok(if word == "if" { Node::If { branches, otherwise } } else { Node::With { branches, otherwise } })
    }

    fn range(&mut self) -> Parsed<Node> {
        self.next();
        let column = self.column;
        let known = self.variables.len();
        let over = self.pipeline(true)?;
        self.expect(&Token::Right, "}}")?;
        self.loops = self.loops.saturating_add(1);
        let parsed = self.body(true, column, "range");
        self.loops = self.loops.saturating_sub(1);
        let (body, ending) = parsed?;
        let mut otherwise = Block::new();
        if ending == Ending::Else {
            self.expect(&Token::Right, "}}")?;
            otherwise = self.last(column, "range")?;
        }
        self.variables.truncate(known);
        Ok(Node::Range { over, body, otherwise })
    }

    fn body(&mut self, moves_dot: bool, column: usize, word: &str) -> Parsed<(Block, Ending)> {
        let (before, known) = (self.is_dot_root, self.variables.len());
        self.is_dot_root = before && !moves_dot;
        let body = self.block(Some((column, word)))?;
        self.is_dot_root = before;
        self.variables.truncate(known);
        Ok(body)
    }

    /// What stands behind an `else`, after which there can be no other.
    fn last(&mut self, column: usize, word: &str) -> Parsed<Block> {
        match self.body(false, column, word)? {
            (block, Ending::End) => Ok(block),
            (_, Ending::Else) => {
                Err(TemplateError::new(self.column, format!("this is the second else of one {word}")))
            }
        }
    }

    fn pipeline(&mut self, is_range: bool) -> Parsed<Pipeline> {
        let column = self.here();
        let mut first = self.operand()?;
        let mut variables = Vec::new();
        let mut assigns = false;
        if let Some((name, is_last)) = self.declared(&first, is_range) {
            variables.push(name);
            if !is_last {
                self.next();
                let second = self.operand()?;
                let Some((name, _)) = self.declared(&second, false) else {
                    let problem = "a variable and := are expected; write range $i, $x := LIST";
                    return Err(TemplateError::new(second.column, problem));
                };
                variables.push(name);
            }
            assigns = self.next() == Some(Token::Assign);
            first = self.operand()?;
        }
        let commands = self.commands(first)?;
        if assigns {
            for name in &variables {
                self.known(name, column)?;
            }
        } else {
            // Seen by what comes after.
            self.variables.extend(variables.iter().cloned());
        }
        for command in &commands {
            self.check(command)?;
        }
        Ok(Pipeline { column, variables, assigns, commands })
    }

    /// The variable that is given a value here, and whether it is the last one: another one stands behind a comma.
    fn declared(&mut self, operand: &Operand, is_range: bool) -> Option<(String, bool)> {
        let Base::Variable(name) = &operand.base else { return None };
        let name = name.clone();
        if !operand.fields.is_empty() {
            return None;
        }
        match self.peek() {
            Some(Token::Declare | Token::Assign) => Some((name, true)),
            Some(Token::Comma) if is_range => Some((name, false)),
            _ => None,
        }
    }

    fn commands(&mut self, first: Operand) -> Parsed<Vec<Command>> {
        let mut commands = Vec::new();
        let mut operands = vec![first];
        loop {
            match self.peek() {
                Some(Token::Pipe) => {
                    self.next();
                    commands.push(Command { operands });
                    let next = self.operand()?;
                    if !matches!(next.base, Base::Function(_)) {
                        let problem = "a function is expected behind |, which takes what stands before it";
                        return Err(TemplateError::new(next.column, problem));
                    }
                    operands = vec![next];
                }
                None | Some(Token::Right | Token::Close | Token::Left | Token::Text(_)) => {
                    commands.push(Command { operands });
                    return Ok(commands);
                }
                Some(_) => operands.push(self.operand()?),
            }
        }
    }

    /// Only functions take something.
    fn check(&self, command: &Command) -> Parsed<()> {
        match command.operands.as_slice() {
            [first, second, ..] if !matches!(first.base, Base::Function(_)) => {
                let problem = "only a function takes values; write |, a function before them, or }}";
                Err(TemplateError::new(second.column, problem))
            }
            _ => Ok(()),
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let column = self.here();
        let mut fields = Vec::new();
        let base = match self.next() {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name, _)) => {
                fields.push((column, name));
                Base::Dot
            }
            Some(Token::Variable(name)) => Base::Variable(name),
            Some(Token::Literal(value)) => Base::Literal(value),
            Some(Token::Word(name)) if NAMES.contains(&name.as_str()) => Base::Function(name),
            Some(Token::Word(name)) => {
                let problem = format!("there is no function {name:?}; there are {}", NAMES.join(", "));
                return Err(TemplateError::new(column, problem));
            }
            Some(Token::Open) => {
                let inside = self.deeper(|parser| parser.pipeline(false))?;
                self.expect(&Token::Close, ")")?;
                Base::Pipeline(Box::new(inside))
            }
            other => {
                let found = other.map_or_else(|| "the end".to_owned(), |token| token.to_string());
                let problem = format!("a value or a function is expected, and {found} stands here");
                return Err(TemplateError::new(column, problem));
            }
        };
        while let Some(Token::Field(name, false)) = self.peek() {
            let name = name.clone();
            let column = self.here();
            self.next();
            if matches!(base, Base::Literal(_) | Base::Function(_)) {
                let problem = format!("there is no .{name} of this; write parentheses around a function");
                return Err(TemplateError::new(column, problem));
            }
            fields.push((column, name));
        }
        let operand = Operand { column, base, fields };
        self.look(&operand)?;
        Ok(operand)
    }

    /// Notes what is looked at, and whether a variable is known.
    fn look(&mut self, operand: &Operand) -> Parsed<()> {
        let is_root = match &operand.base {
            Base::Dot => self.is_dot_root,
            Base::Variable(name) => {
                // It may be about to be declared.
                if !matches!(self.peek(), Some(Token::Declare | Token::Comma)) {
                    self.known(name, operand.column)?;
                }
                name.is_empty()
            }
            _ => false,
        };
        if is_root {
            let root = operand.fields.first().map_or(Root::Whole, |(_, name)| Root::Field(name.clone()));
            self.roots.push(root);
        }
        Ok(())
    }

    fn known(&self, name: &String, column: usize) -> Parsed<()> {
        if self.variables.contains(name) {
            return Ok(());
        }
        let problem = format!("there is no variable ${name} here; write ${name} := VALUE before it");
        Err(TemplateError::new(column, problem))
    }
}
