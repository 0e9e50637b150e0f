//! A tree held against the schema.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::{Document, formats, schema};
use crate::yaml::{Kind, Node, Pair, Place, Problem, Problems, Scalar, Value};

/// What a document says, unless something in it is wrong.
pub(super) fn against<T: DeserializeOwned>(
    schema: &Json,
    document: &Document<'_>,
    node: &Node,
    name: &str,
) -> (Option<T>, Problems) {
    let mut validator = Validator { document, problems: Problems::default() };
    // An empty file says nothing.
    if node.what() == "nothing" {
        return (serde_json::from_value(Json::Object(Map::new())).ok(), validator.problems);
    }
    let json = validator.value(schema, node, name);
    if !validator.problems.is_empty() {
        return (None, validator.problems);
    }
    match serde_json::from_value(json) {
        Ok(value) => (Some(value), validator.problems),
        // Nothing that the schema lets through should come here.
        Err(error) => {
            validator.problem(node.place, Problem::new(error.to_string()));
            (None, validator.problems)
        }
    }
}

struct Validator<'a> {
    document: &'a Document<'a>,
    problems: Problems,
}

impl Validator<'_> {
    fn problem(&mut self, place: Place, problem: Problem) {
        self.problems.add(problem.at(self.document.file, self.document.text, place));
    }

    /// The node as JSON, as far as it is what the schema says. `name` is what messages call it.
    fn value(&mut self, part: &Json, node: &Node, name: &str) -> Json {
        let part = schema::resolve(part);
        if let Some(Json::Array(choices)) = part.get("anyOf") {
            return self.one_of(choices, node, name);
        }
        match (&node.value, part.get("type").and_then(Json::as_str)) {
            (Value::Map(pairs), Some("object")) => self.object(part, pairs, node.place, name),
            (Value::List(nodes), Some("array")) => {
                let items = part.get("items").unwrap_or(&Json::Null);
                let entry = format!("an entry of {name}");
                Json::Array(nodes.iter().map(|node| self.value(items, node, &entry)).collect())
            }
            (Value::Scalar(scalar), Some(kind @ ("string" | "integer" | "boolean"))) => {
                self.scalar(part, kind, scalar, node, name)
            }
            (_, kind) => self.wrong_kind(kind.unwrap_or_default(), node, name),
        }
    }

    /// The one of several that the node can be by its kind.
    fn one_of(&mut self, choices: &[Json], node: &Node, name: &str) -> Json {
        let kind_of = |choice| schema::resolve(choice).get("type").and_then(Json::as_str).unwrap_or_default();
        let kind = match &node.value {
            Value::Map(_) => "object",
            Value::List(_) => "array",
            Value::Scalar(scalar) => match scalar.kind() {
                Kind::Bool(_) => "boolean",
                Kind::Integer(_) => "integer",
                Kind::Text => "string",
                Kind::Null | Kind::Float(_) => "",
            },
        };
        if let Some(choice) = choices.iter().find(|choice| kind_of(choice) == kind) {
            return self.value(choice, node, name);
        }
        let wanted: Vec<_> = choices.iter().map(|choice| what(kind_of(choice))).collect();
        let message = format!("{name} is {}, and has to be {}", node.what(), wanted.join(" or "));
        self.problem(node.place, Problem::new(message));
        Json::Null
    }

    fn object(&mut self, part: &Json, pairs: &[Pair], place: Place, name: &str) -> Json {
        let empty = Map::new();
        let known = part.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let more = part.get("additionalProperties").filter(|more| more.is_object());
        let mut object = Map::new();
        for pair in pairs {
            let Some(schema) = known.get(&pair.key).or(more) else {
                let problem = Problem::new(format!("unknown field `{}`", pair.key));
                let hint = nearest(&pair.key, known.keys().map(String::as_str));
                let hint = hint.map(|near| format!("did you mean `{near}`?"));
                let hint = hint.unwrap_or_else(|| format!("{name} has {}", listed(known.keys())));
                self.problem(pair.key_place, problem.hint(hint));
                continue;
            };
            let value = self.value(schema, &pair.value, &format!("`{}`", pair.key));
            object.insert(pair.key.clone(), value);
        }
        let required = part.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for missing in required.iter().filter_map(Json::as_str).filter(|field| !has(pairs, field)) {
            self.problem(place, Problem::new(format!("{name} has no `{missing}`")));
        }
        Json::Object(object)
    }

    fn scalar(&mut self, part: &Json, kind: &str, scalar: &Scalar, node: &Node, name: &str) -> Json {
        let format = part.get("format").and_then(Json::as_str).unwrap_or_default();
        let json = match (kind, scalar.kind()) {
            ("string", Kind::Text) => self.text(part, format, &scalar.text, node.place, name),
            ("string", Kind::Integer(_)) if formats::WRITTEN_AS_NUMBERS.contains(&format) => {
                self.text(part, format, &scalar.text, node.place, name)
            }
            ("boolean", Kind::Bool(value)) => Some(value.into()),
            ("integer", Kind::Integer(number)) => self.number(part, &number.into(), node.place, name),
            _ => return self.wrong_kind(kind, node, name),
        };
        json.unwrap_or_default()
    }

    fn text(&mut self, part: &Json, format: &str, text: &str, place: Place, name: &str) -> Option<Json> {
        if let Some(choices) = part.get("enum").and_then(Json::as_array) {
            let choices: Vec<_> = choices.iter().filter_map(Json::as_str).collect();
            if !choices.contains(&text) {
                let problem = Problem::new(format!("{name} cannot be {text:?}"));
                self.problem(place, problem.hint(format!("it is one of {}", listed(&choices))));
                return None;
            }
        }
        if let Err((message, hint)) = formats::check(format, text) {
            let problem = Problem::new(message);
            self.problem(place, hint.into_iter().fold(problem, Problem::hint));
            return None;
        }
        Some(text.into())
    }

    fn number(&mut self, part: &Json, number: &Json, place: Place, name: &str) -> Option<Json> {
        let format = part.get("format").and_then(Json::as_str).unwrap_or_default();
        let (value, range) = (wide(number)?, formats::range(format));
        if range.contains(&value) {
            return Some(number.clone());
        }
        let (least, most) = range.into_inner();
        self.problem(place, Problem::new(format!("{name} is {value}, and has to be from {least} to {most}")));
        None
    }

    fn wrong_kind(&mut self, wanted: &str, node: &Node, name: &str) -> Json {
        let problem = Problem::new(format!("{name} is {}, and has to be {}", node.what(), what(wanted)));
        let problem = match (&node.value, wanted) {
            (Value::Scalar(scalar), "string") if scalar.kind() != Kind::Null => {
                problem.hint(format!("write \"{}\" in quotes", scalar.text))
            }
            (Value::Scalar(scalar), "array") if scalar.kind() == Kind::Null => {
                problem.hint("write [] for an empty one")
            }
            (Value::Scalar(scalar), "array") => problem.hint(format!("write [\"{}\"]", scalar.text)),
            (Value::Scalar(scalar), "boolean") if scalar.kind() == Kind::Text => {
                problem.hint("write true or false, without quotes")
            }
            _ => problem,
        };
        self.problem(node.place, problem);
        Json::Null
    }
}

fn has(pairs: &[Pair], field: &str) -> bool {
    pairs.iter().any(|pair| pair.key == field)
}

fn wide(number: &Json) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn what(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "something else",
    }
}

/// What somebody may have meant.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    let lower = text.to_lowercase();
    let rated = known.map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 >= ALIKE).then_some(best.1)
}

/// `a, b and c`.
fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
