//! The values of a template: JSON, with what Go's clients would have in its place.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

/// The type of a value in Go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `any`: what the JSON says.
    Any,
    Text,
    Number,
    Flag,
    List(&'static Shape),
    Map(&'static Shape),
    Struct(&'static [Field]),
    /// To a struct; it may be nil.
    Pointer(&'static Shape),
}

/// A field of a struct.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// In JSON.
    pub(crate) key: &'static str,
    pub(crate) shape: &'static Shape,
}

#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) value: Cow<'a, Value>,
    pub(super) shape: &'static Shape,
}

impl Shape {
    /// What Go has where JSON has nothing.
    fn zero(&self) -> Value {
        match self {
            Self::Text => "".into(),
            Self::Number => 0.into(),
            Self::Flag => false.into(),
            Self::Struct(_) => Value::Object(serde_json::Map::new()),
            Self::Any | Self::List(_) | Self::Map(_) | Self::Pointer(_) => Value::Null,
        }
    }

    /// Of what is in it.
    fn inner(&self) -> &'static Self {
        match self {
            Self::List(inner) | Self::Map(inner) => inner,
            _ => &Self::Any,
        }
    }
}

impl From<Value> for Item<'_> {
    fn from(value: Value) -> Self {
        Self { value: Cow::Owned(value), shape: &Shape::Any }
    }
}

impl<'a> Item<'a> {
    pub(super) fn of(value: &'a Value, shape: &'static Shape) -> Self {
        Self { value: Cow::Borrowed(value), shape }
    }

    pub(super) fn nothing() -> Self {
        Value::Null.into()
    }

    /// What is there, or Go's zero of it.
    fn present(found: Option<Cow<'a, Value>>, shape: &'static Shape) -> Self {
        let value = found.filter(|value| !value.is_null()).unwrap_or_else(|| Cow::Owned(shape.zero()));
        Self { value, shape }
    }

    fn is_nothing(&self) -> bool {
        self.value.is_null()
    }

    /// `.NAME` of it.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        let shape = match self.shape {
            Shape::Pointer(_) if self.is_nothing() => {
                return Err(format!("there is nothing here that could have a .{name}; {SHOWN}"));
            }
            Shape::Pointer(inner) => inner,
            shape => shape,
        };
        if let Shape::Struct(fields) = shape {
            if let Some(field) = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)) {
                return Ok(Self::present(self.entry(field.key), field.shape));
            }
            // What Go's clients leave out can be asked for too.
            return self.similar(name).map(|value| Self::present(Some(value), &Shape::Any)).ok_or_else(
                || {
                    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                    format!("there is no .{name} here; there are {}", names.join(", "))
                },
            );
        }
        match &*self.value {
            Value::Object(_) => {
                let found = self.entry(name).or_else(|| self.similar(name));
                Ok(found.map_or_else(Self::nothing, |value| Self { value, shape: shape.inner() }))
            }
            Value::Null if !matches!(shape, Shape::List(_)) => Ok(Self::nothing()),
            _ => Err(format!("there is no .{name} of {}", self.kind())),
        }
    }

    /// What has this key.
    fn entry(&self, key: &str) -> Option<Cow<'a, Value>> {
        match &self.value {
            Cow::Borrowed(value) => value.get(key).map(Cow::Borrowed),
            Cow::Owned(value) => value.get(key).cloned().map(Cow::Owned),
        }
    }

    /// What has this key but for its case and its signs: `DiffIDs` is `diff_ids`.
    fn similar(&self, name: &str) -> Option<Cow<'a, Value>> {
        let plain = |text: &str| text.replace(['_', '.', '-'], "").to_ascii_lowercase();
        let wanted = plain(name);
        let key = self.value.as_object()?.keys().find(|key| plain(key) == wanted)?;
        self.entry(key)
    }

    /// `index` of it.
    pub(super) fn index(&self, key: &Item<'_>) -> Result<Self, String> {
        match (&*key.value, &self.value, self.shape) {
            (Value::String(name), _, Shape::Struct(_) | Shape::Pointer(_)) => self.field(name),
            (Value::String(name), value, shape) if value.is_object() || matches!(shape, Shape::Map(_)) => {
                Ok(Self::present(self.entry(name), shape.inner()))
            }
            (Value::Number(number), value, shape) if value.is_array() || matches!(shape, Shape::List(_)) => {
                let length = value.as_array().map_or(0, Vec::len);
                let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
                let found = place.and_then(|place| match value {
                    Cow::Borrowed(value) => value.get(place).map(Cow::Borrowed),
                    Cow::Owned(value) => value.get(place).cloned().map(Cow::Owned),
                });
                let item = found.map(|value| Self::present(Some(value), shape.inner()));
                item.ok_or_else(|| {
                    format!("there is no place {number} in a list of {length}; the first is 0")
                })
            }
            _ => Err(format!("{} is not indexed by {}; {SHOWN}", self.kind(), key.kind())),
        }
    }

    /// What `range` goes through, with its keys; none where that cannot be.
    pub(super) fn entries(&self) -> Option<Vec<(Self, Self)>> {
        let shape = self.shape.inner();
        let item = |value| Self::present(Some(value), shape);
        Some(match &self.value {
            Cow::Borrowed(Value::Array(all)) => (0_u64..)
                .zip(all)
                .map(|(n, value)| (Value::from(n).into(), item(Cow::Borrowed(value))))
                .collect(),
            Cow::Borrowed(Value::Object(all)) => {
                all.iter().map(|(key, value)| (text(key), item(Cow::Borrowed(value)))).collect()
            }
            Cow::Owned(Value::Array(all)) => {
                let owned = all.iter().cloned().map(|value| item(Cow::Owned(value)));
                (0_u64..).zip(owned).map(|(n, value)| (Value::from(n).into(), value)).collect()
            }
            Cow::Owned(Value::Object(all)) => {
                all.iter().map(|(key, value)| (text(key), item(Cow::Owned(value.clone())))).collect()
            }
            value if value.is_null() => Vec::new(),
            _ => return None,
        })
    }

    /// As `if` takes it.
    pub(super) fn is_true(&self) -> bool {
        if matches!(self.shape, Shape::Struct(_)) {
            return true;
        }
        match &*self.value {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty() || matches!(self.shape, Shape::Pointer(_)),
        }
    }

    /// As a template shows it.
    pub(super) fn shown(&self) -> String {
        match (&*self.value, self.shape) {
            (Value::Null, Shape::Any) => "<no value>".to_owned(),
            _ => self.inside(),
        }
    }

    /// As Go prints it (`%v`), inside of a list, too.
    pub(super) fn inside(&self) -> String {
        let shape = match self.shape {
            Shape::Pointer(inner) => inner,
            shape => shape,
        };
        if let (Shape::Struct(fields), Value::Object(_)) = (shape, &*self.value) {
            let of = |field: &Field| Self::present(self.entry(field.key), field.shape).inside();
            return format!("{{{}}}", fields.iter().map(of).collect::<Vec<_>>().join(" "));
        }
        let each = |of: fn((Self, Self)) -> String| -> String {
            self.entries().unwrap_or_default().into_iter().map(of).collect::<Vec<_>>().join(" ")
        };
        match (&*self.value, shape) {
            (Value::String(text), _) => text.clone(),
            (Value::Array(_), _) | (Value::Null, Shape::List(_)) => {
                format!("[{}]", each(|(_, value)| value.inside()))
            }
            (Value::Object(_), _) | (Value::Null, Shape::Map(_)) => {
                format!("map[{}]", each(|(key, value)| format!("{}:{}", key.inside(), value.inside())))
            }
            (Value::Null, _) => "<nil>".to_owned(),
            (value @ (Value::Bool(_) | Value::Number(_)), _) => value.to_string(),
        }
    }

    /// For an error.
    pub(super) fn kind(&self) -> &'static str {
        match &*self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        }
    }

    pub(super) fn order(&self, other: &Item<'_>) -> Result<Ordering, String> {
        let order = match (&*self.value, &*other.value) {
            (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
                (Some(one), Some(other)) => Some(one.cmp(&other)),
                _ => one.as_f64().partial_cmp(&other.as_f64()),
            },
            (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
            _ => None,
        };
        order.ok_or_else(|| format!("{} and {} have no order", self.kind(), other.kind()))
    }

    pub(super) fn equals(&self, other: &Item<'_>) -> Result<bool, String> {
        match (&*self.value, &*other.value) {
            (Value::Null, other) => Ok(other.is_null()),
            (_, Value::Null) => Ok(false),
            (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
            (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {
                self.order(other).map(Ordering::is_eq)
            }
            _ => Err(format!("{} and {} cannot be compared", self.kind(), other.kind())),
        }
    }
}

/// How to see what there is.
const SHOWN: &str = "{{json .}} shows what there is";

pub(super) fn text<'a>(text: &str) -> Item<'a> {
    Value::from(text).into()
}
