//! The proxies that the user's Docker configuration has for builds (docker/cli, `config.json`: `proxies`), as build arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the proxies in {path:?}; correct it")]
pub(super) struct ProxyError {
    path: PathBuf,
    #[source]
    source: serde_json::Error,
}

#[derive(Debug, Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    proxies: BTreeMap<String, Proxies>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

/// The arguments that the configuration's `default` stands for, each in capital and in small letters, as programs look for
/// either. Without a file there are none.
pub(super) fn arguments(config: Option<&Path>) -> Result<BTreeMap<String, String>, ProxyError> {
    let Some((path, text)) = config.and_then(|path| Some((path, std::fs::read(path).ok()?))) else {
        return Ok(BTreeMap::new());
    };
    let failed = |source| ProxyError { path: path.to_owned(), source };
    let mut configuration: Configuration = serde_json::from_slice(&text).map_err(failed)?;
    let proxies = configuration.proxies.remove("default").unwrap_or_default();
    let all = [
        ("HTTP_PROXY", proxies.http_proxy),
        ("HTTPS_PROXY", proxies.https_proxy),
        ("NO_PROXY", proxies.no_proxy),
        ("FTP_PROXY", proxies.ftp_proxy),
        ("ALL_PROXY", proxies.all_proxy),
    ];
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(set
        .flat_map(|(key, value)| [(key.to_owned(), value.clone()), (key.to_ascii_lowercase(), value)])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_s_proxies_become_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let text = r#"{"auths": {}, "proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x", "other": 1},
            "tcp://other": {"httpsProxy": "http://q:1"}}}"#;
        std::fs::write(&path, text).unwrap();
        let wanted = [
            ("HTTP_PROXY", "http://p:1"),
            ("NO_PROXY", "x"),
            ("http_proxy", "http://p:1"),
            ("no_proxy", "x"),
        ];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(arguments(Some(&path)).unwrap(), wanted.into());
        for nothing in ["{}", r#"{"proxies": {"default": {}}}"#] {
            std::fs::write(&path, nothing).unwrap();
            assert!(arguments(Some(&path)).unwrap().is_empty(), "{nothing}");
        }
        assert!(arguments(None).unwrap().is_empty());
        assert!(arguments(Some(&directory.path().join("none"))).unwrap().is_empty());
        std::fs::write(&path, "{").unwrap();
        let error = arguments(Some(&path)).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the proxies in ") && error.ends_with("; correct it"),
            "{error}"
        );
    }
}
