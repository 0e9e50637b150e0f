//! Cuts a template into texts and the words of its actions.

use std::fmt;

use serde_json::Value;

use super::TemplateError;

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Text(String),
    Left,
    Right,
    /// `.` alone.
    Dot,
    /// `.Name`; whether a space stands before it, so that it belongs to nothing.
    Field(String, bool),
    /// `$` and `$name`.
    Variable(String),
    Word(String),
    Literal(Value),
    Pipe,
    Comma,
    Declare,
    Assign,
    Open,
    Close,
}

/// As it is written, for an error.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("text"),
            Self::Left => f.write_str(LEFT),
            Self::Right => f.write_str(RIGHT),
            Self::Dot => f.write_str("."),
            Self::Field(name, _) => write!(f, ".{name}"),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Word(word) => f.write_str(word),
            Self::Literal(value) => value.fmt(f),
            Self::Pipe => f.write_str("|"),
            Self::Comma => f.write_str(","),
            Self::Declare => f.write_str(":="),
            Self::Assign => f.write_str("="),
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) column: usize,
    pub(super) token: Token,
}

pub(super) fn lex(text: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut lexer = Lexer { rest: text, column: 1, tokens: Vec::new() };
    let mut is_trimmed = false;
    while !lexer.rest.is_empty() {
        is_trimmed = lexer.text(is_trimmed)?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    column: usize,
    tokens: Vec<Placed>,
}

impl<'a> Lexer<'a> {
    /// A text and the action behind it. Returns whether the next text loses the spaces that it begins with.
    fn text(&mut self, is_trimmed: bool) -> Result<bool, TemplateError> {
        let end = self.rest.find(LEFT).unwrap_or(self.rest.len());
        let column = self.column;
        let mut text = self.take(end);
        let is_followed = !self.rest.is_empty();
        let left = self.column;
        self.take(if is_followed { LEFT.len() } else { 0 });
        if is_trimmed {
            text = text.trim_start();
        }
        if is_followed
            && self.rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_whitespace))
        {
            text = text.trim_end();
            self.take(1);
        }
        if !text.is_empty() {
            self.tokens.push(Placed { column, token: Token::Text(text.to_owned()) });
        }
        if !is_followed {
            return Ok(false);
        }
        if self.rest.trim_start().starts_with("/*") {
            return self.comment(left);
        }
        self.tokens.push(Placed { column: left, token: Token::Left });
        loop {
            let before = self.rest;
            self.take(before.len().saturating_sub(before.trim_start().len()));
            let is_apart = before.len() != self.rest.len();
            let is_trimmed = is_apart && self.rest.starts_with("-}}");
            if is_trimmed || self.rest.starts_with(RIGHT) {
                self.tokens.push(Placed { column: self.column, token: Token::Right });
                self.take(if is_trimmed { RIGHT.len().saturating_add(1) } else { RIGHT.len() });
                return Ok(is_trimmed);
            }
            self.token(left, is_apart)?;
        }
    }

    fn comment(&mut self, left: usize) -> Result<bool, TemplateError> {
        let open = || TemplateError::new(left, "this comment does not end; write {{/* ... */}}");
        let end = self.rest.find("*/").ok_or_else(open)?;
        self.take(end.saturating_add(2));
        let rest = self.rest.trim_start();
        let is_trimmed = rest.len() < self.rest.len() && rest.starts_with('-');
        let rest = if is_trimmed { rest.get(1..).unwrap_or_default() } else { self.rest };
        let behind = rest.strip_prefix(RIGHT).ok_or_else(open)?;
        self.take(self.rest.len().saturating_sub(behind.len()));
        Ok(is_trimmed)
    }

    fn token(&mut self, left: usize, is_apart: bool) -> Result<(), TemplateError> {
        let column = self.column;
        let Some(first) = self.rest.chars().next() else {
            return Err(TemplateError::new(left, "this action does not end; write }} behind it"));
        };
        let simple = [
            (":=", Token::Declare),
            ("=", Token::Assign),
            ("|", Token::Pipe),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
        ];
        let token =
            if let Some((sign, token)) = simple.into_iter().find(|(sign, _)| self.rest.starts_with(sign)) {
                self.take(sign.len());
                token
            } else if matches!(first, '"' | '`' | '\'') {
                self.quoted(first)?
            } else if first.is_ascii_digit() || self.is_signed_number() {
                self.number()?
            } else if first == '.' {
                self.take(1);
                match self.word() {
                    "" => Token::Dot,
                    name => Token::Field(name.to_owned(), is_apart),
                }
            } else if first == '$' {
                self.take(1);
                Token::Variable(self.word().to_owned())
            } else if is_of_word(first) {
                match self.word() {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    word => Token::Word(word.to_owned()),
                }
            } else {
                return Err(TemplateError::new(
                    column,
                    format!("{first:?} stands where a value, a function or }}}} is expected"),
                ));
            };
        self.tokens.push(Placed { column, token });
        Ok(())
    }

    fn is_signed_number(&self) -> bool {
        let unsigned = self.rest.strip_prefix(['+', '-']).unwrap_or(self.rest);
        let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
        digits.starts_with(|c: char| c.is_ascii_digit())
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let column = self.column;
        let mut before = ' ';
        let belongs = |c: char, before: char| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_')
                || (matches!(c, '+' | '-') && matches!(before, 'e' | 'E' | ' '))
        };
        let end = self.rest.find(|c: char| {
            let is_end = !belongs(c, before);
            before = c;
            is_end
        });
        let text = self.take(end.unwrap_or(self.rest.len()));
        let number = number(text);
        number.map(Token::Literal).ok_or_else(|| {
            TemplateError::new(column, format!("{text:?} is no number; write it as 7, -7, 0x7f or 7.5"))
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Token, TemplateError> {
        let column = self.column;
        let open = || TemplateError::new(column, format!("this text does not end; write {quote} behind it"));
        let mut is_escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let is_end = *c == quote && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped && quote != '`';
            is_end
        });
        let (end, _) = end.ok_or_else(open)?;
        let whole = self.take(end.saturating_add(1));
        let inside = whole.get(1..end).unwrap_or_default();
        if quote == '`' {
            return Ok(Token::Literal(inside.into()));
        }
        let text = unescaped(inside).ok_or_else(|| {
            let problem = r#"there is no such escape; write \n, \t, \\, \", \x41 or \u0041"#;
            TemplateError::new(column, format!("{inside:?}: {problem}"))
        })?;
        if quote == '"' {
            return Ok(Token::Literal(text.into()));
        }
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(only), None) => Ok(Token::Literal(u32::from(only).into())),
            _ => Err(TemplateError::new(column, "'...' is one character; write \"...\" for a text")),
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c| !is_of_word(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.column = self.column.saturating_add(taken.chars().count());
        self.rest = rest;
        taken
    }
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Value::from);
        }
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("{sign}{digits}").parse::<i64>().ok().map(Value::from);
    }
    let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number = format!("{sign}{digits}").parse::<f64>().ok().filter(|_| is_decimal)?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// As in Go's source: `\x41`, `\u0041`, `\U00000041`, `\101` and the letters.
fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once('\\') {
        plain.push_str(before);
        let kind = behind.chars().next()?;
        let behind = behind.get(kind.len_utf8()..)?;
        let (digits, radix) = match kind {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => (0, 10),
        };
        if digits == 0 {
            plain.push(letter(kind)?);
            rest = behind;
            continue;
        }
        // Octal digits begin with the one that was taken for the kind.
        let digits_at = if radix == 8 { rest.split_once('\\')?.1 } else { behind };
        plain.push(char::from_u32(u32::from_str_radix(digits_at.get(..digits)?, radix).ok()?)?);
        rest = digits_at.get(digits..)?;
    }
    plain.push_str(rest);
    Some(plain)
}

fn letter(kind: char) -> Option<char> {
    Some(match kind {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '"' | '\'' => kind,
        _ => return None,
    })
}
