//! From a text to the tree.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::{Node, Pair, Place, Problem, Scalar, Value};

/// How deep the tree may be: deeper than any definition, and no danger for whoever walks it.
const DEEPEST: usize = 48;
/// How many parts it may have, with each alias counted as what it stands for: aliases of aliases double with each line.
const MOST: usize = 100_000;

/// The one document of a text; a text without one is nothing.
pub(crate) fn compose(file: &str, text: &str) -> Result<Node, Problem> {
    let mut composer = Composer { parser: Parser::new_from_str(text), anchors: HashMap::new(), parts: 0 };
    composer.document().map_err(|Wrong { message, place }| Problem::new(message).at(file, text, place))
}

struct Composer<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// What each alias stands for, and of how many parts it is.
    anchors: HashMap<usize, (Node, usize)>,
    parts: usize,
}

/// What is wrong, and where.
struct Wrong {
    message: String,
    place: Place,
}

fn wrong(message: impl Into<String>, place: Place) -> Wrong {
    Wrong { message: message.into(), place }
}

impl From<ScanError> for Wrong {
    fn from(error: ScanError) -> Self {
        let marker = error.marker();
        let column = marker.col().saturating_add(1);
        wrong(format!("this is no YAML: {}", error.info()), Place { line: marker.line(), column, width: 1 })
    }
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Wrong> {
        match self.parser.next_event() {
            Some(event) => Ok(event?),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Wrong> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentStart(_) if found.is_some() => {
                    return Err(wrong("a second document; give one for each file", place(span)));
                }
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event => found = Some(self.node(event, span, 0)?),
            }
        }
        let nothing = Scalar { text: String::new(), is_plain: true };
        let start = Place { line: 1, column: 1, width: 1 };
        Ok(found.unwrap_or(Node { place: start, value: Value::Scalar(nothing) }))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Wrong> {
        let place = place(span);
        if depth > DEEPEST {
            return Err(wrong(format!("more than {DEEPEST} things inside one another"), place));
        }
        let before = self.parts;
        self.count(1, place)?;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place),
            Event::Scalar(text, style, anchor, _) => {
                let scalar = Scalar { text: text.into_owned(), is_plain: style == ScalarStyle::Plain };
                (anchor, Value::Scalar(scalar))
            }
            Event::SequenceStart(anchor, _) => (anchor, Value::List(self.list(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            _ => return Err(wrong("this is no YAML: a value was expected", place)),
        };
        let node = Node { place, value };
        // Zero is none.
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.parts.saturating_sub(before)));
        }
        Ok(node)
    }

    /// Where it stands for something, it stands itself.
    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Wrong> {
        let Some((node, parts)) = self.anchors.get(&anchor) else {
            return Err(wrong("an alias of what it is part of", place));
        };
        let (node, parts) = (Node { place, value: node.value.clone() }, *parts);
        self.count(parts, place)?;
        Ok(node)
    }

    fn count(&mut self, parts: usize, place: Place) -> Result<(), Wrong> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts > MOST {
            return Err(wrong(format!("more than {MOST} values, aliases resolved"), place));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Wrong> {
        let mut nodes = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(nodes);
            }
            nodes.push(self.node(event, span, depth.saturating_add(1))?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Pair>, Wrong> {
        let mut pairs = Vec::<Pair>::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let Event::Scalar(key, style, ..) = event else {
                return Err(wrong("a key has to be a text", place(span)));
            };
            let (key, key_place) = (key.into_owned(), place(span));
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth.saturating_add(1))?;
            if key == "<<" && style == ScalarStyle::Plain {
                merged.push(value);
                continue;
            }
            if let Some(first) = pairs.iter().find(|pair| pair.key == key) {
                let line = first.key_place.line;
                return Err(wrong(
                    format!("`{key}` stands here a second time, after line {line}"),
                    key_place,
                ));
            }
            pairs.push(Pair { key, key_place, value });
        }
        for value in merged {
            merge(&mut pairs, value)?;
        }
        Ok(pairs)
    }
}

/// `<<: *other`: the keys of another mapping, or of several, that this one has not itself.
fn merge(pairs: &mut Vec<Pair>, from: Node) -> Result<(), Wrong> {
    match from.value {
        Value::Map(others) => {
            for other in others {
                if !pairs.iter().any(|pair| pair.key == other.key) {
                    pairs.push(other);
                }
            }
            Ok(())
        }
        Value::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
            Value::Map(_) => merge(pairs, node),
            Value::List(_) | Value::Scalar(_) => Err(wrong("`<<` takes mappings only", node.place)),
        }),
        Value::Scalar(_) => Err(wrong("`<<` takes mappings only", from.place)),
    }
}

fn place(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { usize::MAX };
    Place { line: start.line(), column: start.col().saturating_add(1), width: width.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Node {
        compose("a.yml", text).unwrap()
    }

    fn message(text: &str) -> String {
        compose("a.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn everything_knows_where_it_stands() {
        let node = made("kernel:\n  image: 'a b'\nfiles:\n  - path: x\n    mode: 0644\n");
        let image = node.get("kernel").unwrap().get("image").unwrap();
        assert_eq!(image.place, Place { line: 2, column: 10, width: 5 });
        let file = &node.list("files")[0];
        let Value::Map(pairs) = &file.value else { panic!("{file:?}") };
        assert_eq!(
            (pairs[1].key.as_str(), pairs[1].key_place),
            ("mode", Place { line: 5, column: 5, width: 4 })
        );
        // As it is written, whatever it means.
        assert_eq!(file.text("mode"), Some("0644"));
        assert_eq!(made("").what(), "nothing");
        assert_eq!(made("# only a comment\n").what(), "nothing");
    }

    #[test]
    fn anchors_and_merges_are_resolved() {
        let node = made("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\nd: {<<: [*a, {z: 4}]}\n");
        assert_eq!(node.get("b").unwrap().text("x"), Some("1"));
        assert_eq!(node.get("b").unwrap().text("y"), Some("3"));
        assert_eq!(node.get("c").unwrap().text("y"), Some("2"));
        assert_eq!(node.get("c").unwrap().place.line, 5);
        assert_eq!(node.get("d").unwrap().text("z"), Some("4"));
        assert!(message("a: &a [1]\nb: {<<: *a}\n").starts_with("`<<` takes mappings only"));
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let shown = message("kernel:\n  image: x\n  image: y\n");
        assert_eq!(
            shown,
            "`image` stands here a second time, after line 2 at a.yml:3:3\n 3 |   image: y\n   |   ^^^^^"
        );
        assert!(
            message("a: [1, 2\nb: 3\n").starts_with("this is no YAML: "),
            "{}",
            message("a: [1, 2\nb: 3\n")
        );
        assert!(
            message("a: 1\n---\nb: 2\n")
                .starts_with("a second document; give one for each file at a.yml:2:1")
        );
        assert!(message("? [1]\n: 2\n").starts_with("a key has to be a text at a.yml:1:3"));
        assert!(message("a: &a [*a]\n").starts_with("an alias of what it is part of at a.yml:1:8"));
        assert!(message("a: *b\n").starts_with("this is no YAML: "));
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(
            message(&deep).starts_with("more than 48 things inside one another at a.yml:1:50"),
            "{:.200}",
            message(&deep)
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{}]\n", below.trim_end_matches(", "));
        }
        assert!(
            message(&bomb).starts_with("more than 100000 values, aliases resolved at a.yml:5:"),
            "{}",
            message(&bomb)
        );
    }
}
