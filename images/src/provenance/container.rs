//! A container's configuration, field by field, and who says what.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{ImageId, Item};
use crate::spec::{At, Image, OwnConfig, Written};

/// A container as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// `containers/services/NAME`.
    pub directory: String,
    /// Where the files of its image lie.
    pub root: String,
    pub item: Option<Item>,
    pub image: ImageId,
    pub fields: Vec<Field>,
}

/// A field of its configuration, as the definition calls it; those of `runtime` are `runtime.FIELD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    /// One, but for a list that the definition adds to.
    pub said: Vec<Said>,
}

/// What somebody says of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub value: Json,
    pub by: By,
}

/// Who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Definition(At),
    /// The image's label `org.mobyproject.config`.
    Label,
    /// The recipe of a component, which has no label.
    Recipe,
    /// The configuration that every image has.
    Configuration,
    /// Nobody: it is so where nothing is said.
    Default,
}

/// What is told of even where nobody says anything: what it may do.
const ALWAYS: &str = "capabilities";

/// All fields that somebody says something of. The rules are those of [`Image::merged_with`], which this is tested against.
pub(crate) fn fields(image: &Image, own: &OwnConfig, id: &ImageId, written: Option<&Written>) -> Vec<Field> {
    let given = flat(image);
    let (label, configuration) = (flat(&own.label), flat(&own.configuration));
    let by_label = if id.digest.is_some() { By::Label } else { By::Recipe };
    let below = |name: &str| {
        let of = |fields: &Map<String, Json>, by: &By| {
            Some(Said { value: fields.get(name)?.clone(), by: by.clone() })
        };
        of(&label, &by_label).or_else(|| of(&configuration, &By::Configuration))
    };
    let above = |name: &str| {
        let at = written.and_then(|written| written.fields.get(name)).cloned();
        let by = at.map_or(By::Default, By::Definition);
        Some(Said { value: given.get(name)?.clone(), by })
    };
    let names = [&given, &label, &configuration].into_iter().flat_map(Map::keys);
    let names = names.map(|name| name.strip_suffix(ADD).unwrap_or(name)).chain([ALWAYS]);
    let field = |name: &str| {
        let mut said: Vec<_> = match above(name) {
            Some(said) => vec![said],
            None => below(name).into_iter().chain(above(&format!("{name}{ADD}"))).collect(),
        };
        if said.is_empty() {
            said.push(Said { value: Json::Array(Vec::new()), by: By::Default });
        }
        Field { name: name.to_owned(), said }
    };
    names.collect::<BTreeSet<_>>().into_iter().map(field).collect()
}

/// What the names of fields end with that add to a list.
const ADD: &str = ".add";

/// The fields that are given.
fn flat(config: &impl Serialize) -> Map<String, Json> {
    // What is read from text is written as such.
    let Ok(Json::Object(mut fields)) = serde_json::to_value(config) else { return Map::new() };
    fields.retain(|name, _| !["name", "image"].contains(&name.as_str()));
    if let Some(Json::Object(runtime)) = fields.remove("runtime") {
        fields.extend(runtime.into_iter().map(|(name, value)| (format!("runtime.{name}"), value)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::{Definition, Document, ImageConfig};

    const LABEL: &str = "{capabilities: [CAP_KILL], binds: ['/a:/a'], env: [A=1], net: new, runtime: {mkdir: [/l], cgroups: [l]}}";
    const CONFIGURATION: &str = "{command: [/c], env: [B=2], cwd: /w}";

    fn told(container: &str) -> (Image, OwnConfig, Vec<Field>) {
        let text = format!("services:\n  - name: a\n    image: x\n{container}");
        let document = Document { file: "a.yml", text: &text, directory: Path::new(""), is_local: false };
        let (definition, places) = Definition::locate(&[document]).unwrap();
        let config = |text| serde_yaml::from_str::<ImageConfig>(text).unwrap();
        let own = OwnConfig { label: config(LABEL), configuration: config(CONFIGURATION) };
        let id = ImageId { name: "x".into(), digest: Some("sha256:0".into()) };
        let image = definition.services[0].clone();
        let fields = fields(&image, &own, &id, places.entry("services", 0));
        (image, own, fields)
    }

    #[test]
    fn each_field_is_said_by_the_one_who_decides() {
        let (_, _, fields) = told(
            "    capabilities.add: [CAP_CHOWN]\n    net: host\n    binds: []\n    binds.add: ['/b:/b']\n    runtime: {mkdir: [/d]}\n",
        );
        let shown: Vec<_> = fields
            .iter()
            .map(|Field { name, said }| {
                let said = said.iter().map(|Said { value, by }| match by {
                    By::Definition(at) => format!("{value} {at}"),
                    by => format!("{value} {by:?}"),
                });
                format!("{name} {}", said.collect::<Vec<_>>().join(" + "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "binds [] a.yml:6:5",
                "capabilities [\"CAP_KILL\"] Label + [\"CAP_CHOWN\"] a.yml:4:5",
                "command [\"/c\"] Configuration",
                "cwd \"/w\" Configuration",
                "env [\"A=1\"] Label",
                "net \"host\" a.yml:5:5",
                "runtime.cgroups [\"l\"] Label",
                "runtime.mkdir [\"/d\"] a.yml:8:15",
            ]
        );
    }

    /// Whoever changes the merge has to change what is told of it.
    #[test]
    fn what_is_told_is_what_holds() {
        for container in [
            "",
            "    capabilities: [all]\n    capabilities.add: [CAP_CHOWN]\n",
            "    capabilities.add: [CAP_CHOWN]\n    binds.add: ['/b:/b']\n",
            "    command: [/y]\n    readonly: true\n    runtime: {mounts: [{destination: /m, type: tmpfs}]}\n",
            "    binds: []\n    env: []\n    oomScoreAdj: 7\n",
        ] {
            let (image, own, fields) = told(container);
            let holds = flat(&image.merged_with(&own.merged()));
            let mut told = Map::new();
            for Field { name, said } in fields {
                let value = match said.as_slice() {
                    [only] => only.value.clone(),
                    several => {
                        several.iter().flat_map(|said| said.value.as_array().unwrap().clone()).collect()
                    }
                };
                told.insert(name, value);
            }
            assert_eq!(told, holds, "{container}");
        }
    }

    #[test]
    fn that_nothing_is_allowed_is_told() {
        let id = ImageId { name: "mvm/x".into(), digest: None };
        let own = OwnConfig::from(ImageConfig { net: Some("new".into()), ..ImageConfig::default() });
        let fields = fields(&Image::default(), &own, &id, None);
        let said = |value, by| vec![Said { value, by }];
        let expected = [
            Field { name: "capabilities".into(), said: said(Json::Array(vec![]), By::Default) },
            Field { name: "net".into(), said: said("new".into(), By::Recipe) },
        ];
        assert_eq!(fields, expected);
    }
}
