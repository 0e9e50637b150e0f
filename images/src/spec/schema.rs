//! The JSON schema of a definition.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::{Definition, ImageConfig};

/// Draft 2020-12, for editors; `format` names what `formats` knows.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(of::<Definition>)
}

/// That of an image's label. What it refers to is in that of a definition, too.
pub(super) fn of_label() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(of::<ImageConfig>)
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(as_written));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// What differs between a type and how it is written.
fn as_written(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    // A field may be left out, but not be nothing.
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let only = std::mem::take(only);
            object.remove("anyOf");
            object.extend(only);
        }
    }
    // The format of a list is that of each of its texts.
    if let Some(format) = object.get("format").cloned()
        && let Some(Value::Object(items)) = object.get_mut("items")
    {
        items.insert("format".to_owned(), format);
        object.remove("format");
    }
}

/// A part of the schema, through what it refers to.
pub(super) fn resolve(part: &Value) -> &Value {
    let Some(name) = part.get("$ref").and_then(Value::as_str) else { return part };
    name.strip_prefix('#').and_then(|pointer| schema().pointer(pointer)).unwrap_or(part)
}
