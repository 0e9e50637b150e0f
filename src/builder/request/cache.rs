//! Where a build takes what others have built from, and where it leaves its own, as `docker buildx build` reads `--cache-from` and
//! `--cache-to`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard_buildkit_proto::moby::buildkit::v1::CacheOptionsEntry;

use super::fields::{fields, truth};
use crate::registry::ImageRef;

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub(super) kind: String,
    pub(super) attributes: BTreeMap<String, String>,
    /// The registry's name of it.
    pub(super) reference: Option<ImageRef>,
    /// The image layout of this host that it is.
    pub(in crate::builder) local: Option<Local>,
}

/// An image layout, and the name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::builder) struct Local {
    pub(in crate::builder) directory: PathBuf,
    pub(in crate::builder) tag: String,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    From,
    To,
}

/// What GitHub gives a job for its cache: the second version of its protocol has another place, and a word that says so.
const TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";
const URL: &str = "ACTIONS_CACHE_URL";
const URL_V2: &str = "ACTIONS_RESULTS_URL";
const IS_V2: &str = "ACTIONS_CACHE_SERVICE_V2";

impl Cache {
    /// `--cache-from`: `type=registry|local|gha,KEY=VALUE...`, or the name of an image.
    pub fn from(text: &str) -> Result<Self, String> {
        Self::parse(text, Way::From, |name| std::env::var(name).ok())
    }

    /// `--cache-to`: `type=registry|local|inline|gha,KEY=VALUE...`, or the name of an image.
    pub fn to(text: &str) -> Result<Self, String> {
        Self::parse(text, Way::To, |name| std::env::var(name).ok())
    }

    /// One in the image, which people have asked for by an argument since before there was `--cache-to`.
    pub fn of_arguments(arguments: &BTreeMap<String, String>) -> Option<Self> {
        let is_wanted = truth(arguments.get("BUILDKIT_INLINE_CACHE")?).unwrap_or(false);
        let kind = is_wanted.then(|| "inline".to_owned())?;
        Some(Self { kind, attributes: BTreeMap::new(), reference: None, local: None })
    }

    /// The image that is read or written.
    pub fn image(&self) -> Option<&ImageRef> {
        self.reference.as_ref()
    }

    /// It goes into the image itself.
    pub(super) fn is_inline(&self) -> bool {
        self.kind == "inline"
    }

    /// How BuildKit is told to write it; `number` is its place among those that are written.
    pub(super) fn export(&self, number: usize) -> CacheOptionsEntry {
        let mut entry = self.entry();
        if self.local.is_some() {
            entry.attrs.insert("dest".to_owned(), Self::store(Way::To, number));
        }
        entry
    }

    /// How BuildKit is told to read it: of a layout, what has the digest. Nothing where no digest is known.
    pub(in crate::builder) fn import(
        &self,
        number: usize,
        digest: Option<String>,
    ) -> Option<CacheOptionsEntry> {
        let mut entry = self.entry();
        if self.local.is_some() {
            entry.attrs.insert("src".to_owned(), Self::store(Way::From, number));
            if !entry.attrs.contains_key("digest") {
                entry.attrs.insert("digest".to_owned(), digest?);
            }
        }
        Some(entry)
    }

    fn entry(&self) -> CacheOptionsEntry {
        CacheOptionsEntry { r#type: self.kind.clone(), attrs: self.attributes.clone().into_iter().collect() }
    }

    /// The name under which the daemon asks for the layout that is written.
    pub(in crate::builder) fn export_store_id(number: usize) -> String {
        format!("local:{}", Self::store(Way::To, number))
    }

    /// The same of one that is read.
    pub(in crate::builder) fn import_store_id(number: usize) -> String {
        format!("local:{}", Self::store(Way::From, number))
    }

    /// A name, since no path leaves this host.
    fn store(way: Way, number: usize) -> String {
        format!("{}-{number}", if way == Way::From { "from" } else { "to" })
    }

    fn parse(text: &str, way: Way, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let fields = fields(text)?;
        let mut attributes = BTreeMap::new();
        if let [(_, None)] = fields.as_slice() {
            attributes.insert("ref".to_owned(), text.to_owned());
            attributes.insert("type".to_owned(), "registry".to_owned());
        } else {
            for (key, value) in fields {
                let value =
                    value.ok_or_else(|| format!("{text:?}: {key:?} has no value; write KEY=VALUE"))?;
                attributes.insert(key, value);
            }
        }
        let kind =
            attributes.remove("type").ok_or_else(|| format!("{text:?} has no type; write type=TYPE"))?;
        let mut cache = Self { kind, attributes, reference: None, local: None };
        match (cache.kind.as_str(), way) {
            ("registry", _) => cache.registry(text)?,
            ("local", way) => cache.local(text, if way == Way::From { "src" } else { "dest" })?,
            ("inline", Way::To) => {}
            ("gha", _) => cache.gha(environment)?,
            (other, _) => {
                let known = if way == Way::To {
                    "registry, local, inline and gha"
                } else {
                    "registry, local and gha"
                };
                return Err(format!(
                    "the builder has no cache of the type {other:?} here; there are {known}"
                ));
            }
        }
        Ok(cache)
    }

    fn registry(&mut self, text: &str) -> Result<(), String> {
        let name =
            self.attributes.get("ref").ok_or_else(|| format!("{text:?} has no ref; write ref=IMAGE"))?;
        let name: ImageRef =
            name.parse().map_err(|error: crate::registry::InvalidImageRef| error.to_string())?;
        self.attributes.insert("ref".to_owned(), name.to_string());
        if name.speaks_http() {
            self.attributes.entry("registry.insecure".to_owned()).or_insert("true".to_owned());
        }
        self.reference = Some(name);
        Ok(())
    }

    fn local(&mut self, text: &str, key: &str) -> Result<(), String> {
        let path = self.attributes.remove(key).filter(|path| !path.is_empty());
        let directory = path.ok_or_else(|| format!("{text:?} has no {key}; write {key}=DIRECTORY"))?.into();
        let tag = self.attributes.remove("tag").unwrap_or_else(|| "latest".to_owned());
        self.local = Some(Local { directory, tag });
        Ok(())
    }

    fn gha(&mut self, environment: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        let is_v2 = match self.attributes.get("version") {
            Some(version) => version == "2",
            None => environment(IS_V2).is_some_and(|word| truth(&word) == Ok(true)),
        };
        let results = environment(URL_V2);
        let given = [
            ("token", environment(TOKEN)),
            ("url", environment(URL).or_else(|| results.clone())),
            ("url_v2", results.filter(|_| is_v2)),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                self.attributes.entry(key.to_owned()).or_insert(value);
            }
        }
        let has = |key: &str| self.attributes.contains_key(key);
        if has("token") && (has("url") || has("url_v2")) {
            return Ok(());
        }
        Err(format!(
            "a cache of the type gha is there in a job of GitHub's only, which has {TOKEN}, and {URL} or {URL_V2}, in its environment"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_understood() {
        let cache = Cache::from("127.0.0.1:5000/a").unwrap();
        assert_eq!(
            (cache.kind.as_str(), cache.attributes["ref"].as_str()),
            ("registry", "127.0.0.1:5000/a:latest")
        );
        assert_eq!(cache.attributes["registry.insecure"], "true");
        let cache = Cache::to("type=registry,ref=ghcr.io/a/b:c,mode=max").unwrap();
        assert!(cache.attributes["mode"] == "max" && !cache.attributes.contains_key("registry.insecure"));
        let local = |tag: &str| Some(Local { directory: "d".into(), tag: tag.to_owned() });
        assert_eq!(Cache::from("type=local,src=d").unwrap().local, local("latest"));
        assert_eq!(Cache::to("type=local,dest=d,tag=x").unwrap().local, local("x"));
        assert_eq!(Cache::to("type=inline").unwrap().kind, "inline");
        let argument = |word: &str| [("BUILDKIT_INLINE_CACHE".to_owned(), word.to_owned())].into();
        assert_eq!(Cache::of_arguments(&argument("1")), Cache::to("type=inline").ok());
        assert!(
            [argument("0"), argument("x"), BTreeMap::new()]
                .iter()
                .all(|of| Cache::of_arguments(of).is_none())
        );
    }

    #[test]
    fn githubs_cache_takes_what_the_job_has() {
        let told = |text: &str, unset: &[&str]| {
            let environment = |name: &str| {
                let value = if name == IS_V2 { "True" } else { name.strip_prefix("ACTIONS_").unwrap() };
                (!unset.contains(&name)).then(|| value.to_owned())
            };
            let cache = Cache::parse(text, Way::To, environment).unwrap();
            cache.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told("type=gha,url=mine", &[]), "token=RUNTIME_TOKEN url=mine url_v2=RESULTS_URL");
        assert_eq!(
            told("type=gha", &[IS_V2]),
            "token=RUNTIME_TOKEN url=CACHE_URL",
            "the protocol is the first"
        );
        assert_eq!(told("type=gha", &[IS_V2, URL]), "token=RUNTIME_TOKEN url=RESULTS_URL");
        assert_eq!(told("type=gha,version=1", &[]), "token=RUNTIME_TOKEN url=CACHE_URL version=1");
        assert_eq!(
            told("type=gha,version=2", &[IS_V2]),
            "token=RUNTIME_TOKEN url=CACHE_URL url_v2=RESULTS_URL version=2"
        );
        let error = Cache::parse("type=gha", Way::From, |_| None).unwrap_err();
        assert!(
            error.contains("is there in a job of GitHub's only, which has ACTIONS_RUNTIME_TOKEN, "),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (error, wanted) in [
            (Cache::from("ref=x"), "\"ref=x\" has no type; write type=TYPE"),
            (
                Cache::from("type=inline"),
                "no cache of the type \"inline\" here; there are registry, local and gha",
            ),
            (
                Cache::to("type=s3"),
                "no cache of the type \"s3\" here; there are registry, local, inline and gha",
            ),
            (Cache::to("type=registry"), "\"type=registry\" has no ref; write ref=IMAGE"),
            (Cache::to("type=local,src=d"), "has no dest; write dest=DIRECTORY"),
            (Cache::from("type=local,src="), "has no src; write src=DIRECTORY"),
            (Cache::from("A"), "\"A\" is not the name of an image"),
            (Cache::to("type=inline,x"), "\"x\" has no value; write KEY=VALUE"),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
