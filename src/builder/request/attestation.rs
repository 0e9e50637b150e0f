//! What is said of an image beside it, as `docker buildx build` reads `--attest`, `--sbom` and `--provenance`: each kind once, the
//! last word counts.

use std::str::FromStr;

use super::fields::{Fields, fields, listed, truth};

/// What can be attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attested {
    Provenance,
    Sbom,
}

/// Whether it is, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    pub(super) kind: Attested,
    /// As BuildKit takes them, `KEY=VALUE` with commas between; none where it is not wanted.
    pub(super) attributes: Option<String>,
}

/// What BuildKit's provenance knows. A bill of materials is made by a program that may know anything.
const OF_PROVENANCE: [&str; 7] =
    ["mode", "version", "inline-only", "reproducible", "filename", "builder-id", "capture-usage"];
const MODES: [&str; 3] = ["min", "max", "full"];

impl Attested {
    const ALL: [Self; 2] = [Self::Provenance, Self::Sbom];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Provenance => "provenance",
            Self::Sbom => "sbom",
        }
    }

    /// By the value of a flag of its own: `true`, `false`, or attributes.
    pub fn with(self, text: &str) -> Result<Attestation, String> {
        let attributes = match truth(text) {
            Ok(is_wanted) => is_wanted.then(Vec::new),
            Err(_) => Some(fields(text)?),
        };
        self.of(attributes)
    }

    fn of(self, attributes: Option<Fields>) -> Result<Attestation, String> {
        let Some(mut attributes) = attributes else {
            return Ok(Attestation { kind: self, attributes: None });
        };
        for (key, value) in &attributes {
            let given = || value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
            let wrong =
                || format!("{:?} is nothing that {} is made with; write KEY=VALUE", given(), self.name());
            let value = value.as_ref().ok_or_else(wrong)?;
            if self == Self::Provenance && !OF_PROVENANCE.contains(&key.as_str()) {
                return Err(format!("provenance has no {key:?}; it has {}", OF_PROVENANCE.join(", ")));
            }
            if key.is_empty() || (key == "mode" && !MODES.contains(&value.as_str())) {
                return Err(wrong());
            }
        }
        if self == Self::Provenance && !attributes.iter().any(|(key, _)| key == "mode") {
            attributes.insert(0, ("mode".to_owned(), Some("min".to_owned())));
        }
        Ok(Attestation { kind: self, attributes: Some(listed(&attributes)) })
    }
}

impl FromStr for Attestation {
    type Err = String;

    /// `type=KIND[,disabled=true][,KEY=VALUE...]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut kind = None;
        let mut is_disabled = false;
        let mut attributes = Fields::new();
        for (key, value) in fields(text)? {
            match key.as_str() {
                "type" => kind = value,
                "disabled" => is_disabled = value.map_or(Ok(true), |value| truth(&value))?,
                _ => attributes.push((key, value)),
            }
        }
        let kind = kind.ok_or_else(|| format!("{text:?} has no type; write type=provenance or type=sbom"))?;
        let unknown = || format!("nothing of the type {kind:?} is attested; there are provenance and sbom");
        let kind = Attested::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(unknown)?;
        kind.of((!is_disabled).then_some(attributes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(found: Result<Attestation, String>) -> Option<String> {
        found.unwrap().attributes
    }

    #[test]
    fn every_spelling_is_understood() {
        let provenance = |text: &str| attributes(Attested::Provenance.with(text));
        assert_eq!(provenance("true").as_deref(), Some("mode=min"));
        assert_eq!((provenance("1").as_deref(), provenance("0")), (Some("mode=min"), None));
        assert_eq!(provenance("mode=max,version=v1").as_deref(), Some("mode=max,version=v1"));
        assert_eq!(provenance("builder-id=x").as_deref(), Some("mode=min,builder-id=x"));
        assert_eq!(
            provenance("Mode=full,\"builder-id=a,b\"").as_deref(),
            Some("mode=full,\"builder-id=a,b\"")
        );
        assert_eq!(provenance("filename=p.json").as_deref(), Some("mode=min,filename=p.json"));
        let sbom = |text: &str| attributes(Attested::Sbom.with(text));
        assert_eq!((sbom("true").as_deref(), sbom("false")), (Some(""), None));
        assert_eq!(sbom("generator=a/b:1").as_deref(), Some("generator=a/b:1"));
        let attest = |text: &str| text.parse::<Attestation>();
        assert_eq!(attest("type=sbom"), Attested::Sbom.with("true"));
        assert_eq!(attest("mode=max,type=provenance"), Attested::Provenance.with("mode=max"));
        for disabled in ["disabled=true", "disabled", "disabled=1"] {
            assert_eq!(attest(&format!("type=provenance,{disabled}")), Attested::Provenance.with("false"));
        }
        assert_eq!(attest("type=provenance,disabled=0"), Attested::Provenance.with("true"));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (error, wanted) in [
            (
                Attested::Provenance.with("much"),
                "\"much\" is nothing that provenance is made with; write KEY=VALUE",
            ),
            (Attested::Provenance.with("mode=much"), "\"mode=much\" is nothing that provenance is made with"),
            (
                Attested::Provenance.with("made=1"),
                "provenance has no \"made\"; it has mode, version, inline-only,",
            ),
            (Attested::Sbom.with("=x"), "\"=x\" is nothing that sbom is made with"),
            ("type=sbom,disabled=no".parse(), "\"no\" is neither true nor false"),
            ("sbom".parse(), "\"sbom\" has no type; write type=provenance or type=sbom"),
            ("type=slsa".parse(), "nothing of the type \"slsa\" is attested; there are provenance and sbom"),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
