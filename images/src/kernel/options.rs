//! Whether the configuration became what the fragment asks for.
//!
//! Kconfig drops an option without a word when something that it depends on is missing, so what came out is held
//! against what was asked for.

use std::collections::BTreeMap;

/// The wanted options that did not take effect, each as `CONFIG_X=y (is: not set)`.
pub(super) fn not_taken(fragment: &str, result: &str) -> Vec<String> {
    let result = parse(result);
    parse(fragment)
        .into_iter()
        .filter(|(name, wanted)| result.get(name).copied().unwrap_or("n") != *wanted)
        .map(|(name, wanted)| {
            let now = result.get(name).copied().unwrap_or("not set");
            format!("{name}={wanted} (is: {now})")
        })
        .collect()
}

/// Whether a fragment asks for an option.
pub(super) fn has(fragment: &str, option: &str) -> bool {
    parse(fragment).get(option) == Some(&"y")
}

fn parse(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(option).collect()
}

/// `CONFIG_X=value`, or `# CONFIG_X is not set`, which is the value `n`.
fn option(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return name.starts_with("CONFIG_").then_some((name, "n"));
    }
    line.split_once('=').filter(|(name, _)| name.starts_with("CONFIG_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_did_not_take_is_named() {
        let fragment = "# why\nCONFIG_EROFS_FS=y\nCONFIG_NR_CPUS=64\nCONFIG_DEVMEM=n\nCONFIG_GONE=n\n";
        let result = "CONFIG_NR_CPUS=8\n# CONFIG_DEVMEM is not set\n# CONFIG_EROFS_FS is not set\n";
        assert_eq!(not_taken(fragment, result), ["CONFIG_EROFS_FS=y (is: n)", "CONFIG_NR_CPUS=64 (is: 8)"]);
        assert_eq!(not_taken("CONFIG_X=y\n", ""), ["CONFIG_X=y (is: not set)"]);
        assert!(not_taken("CONFIG_A=\"-mvm\"\n", "CONFIG_A=\"-mvm\"\n").is_empty());
    }
}
