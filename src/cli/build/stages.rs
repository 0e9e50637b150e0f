//! On which platforms the stages of a Dockerfile run, where it says so itself: the names of their steps do not, in a build for one
//! platform.

use super::ports::instructions;
use crate::builder::Stages;

/// Of each stage that does not simply run on the platform that is built for, by the name that its steps have.
pub(super) fn of(dockerfile: &str) -> Stages {
    let mut names: Vec<(String, String)> = Vec::new();
    for line in instructions(dockerfile) {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("from")) {
            continue;
        }
        let (flags, words): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
        let platform = flags.iter().find_map(|flag| flag.strip_prefix("--platform=")).unwrap_or_default();
        let name = match words.as_slice() {
            [_, r#as, name, ..] if r#as.eq_ignore_ascii_case("as") => name.to_ascii_lowercase(),
            _ => format!("stage-{}", names.len()),
        };
        // One that builds on an earlier stage runs where that does.
        let base = words.first().map(|base| base.to_ascii_lowercase()).unwrap_or_default();
        let earlier = names.iter().find(|(earlier, _)| *earlier == base);
        let platform = match earlier {
            Some((_, of_base)) if platform.is_empty() => of_base.clone(),
            _ => platform.trim_matches(['"', '\'']).to_owned(),
        };
        names.push((name, platform));
    }
    if let [(only, _)] = names.as_mut_slice()
        && only == "stage-0"
    {
        only.clear();
    }
    let is_target = |platform: &str| ["", "$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&platform);
    let apart = names.into_iter().filter(|(_, platform)| !is_target(platform));
    // With a variable in it, it is most likely the builder's own; in any case nothing is claimed of it.
    apart.map(|(name, platform)| (name, platform.parse().ok().filter(|_| !platform.contains('$')))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn stages_that_run_elsewhere_are_found() {
        let dockerfile = "ARG X=1\nFROM --platform=$BUILDPLATFORM golang AS Build\nRUN make\n\
            FROM build AS more\nFROM --platform=linux/arm64 \\\n  alpine\nFROM scratch as last\n\
            from --platform=${TARGETPLATFORM} alpine AS usual\n";
        let wanted: [(&str, Option<&str>); 3] =
            [("build", None), ("more", None), ("stage-2", Some("linux/arm64"))];
        let wanted =
            wanted.map(|(name, platform)| (name.to_owned(), platform.map(|text| text.parse().unwrap())));
        assert_eq!(of(dockerfile), HashMap::from(wanted));
        assert_eq!(
            of("FROM --platform=linux/arm64 a"),
            HashMap::from([(String::new(), "linux/arm64".parse().ok())])
        );
        assert_eq!(of("FROM a\nRUN x"), HashMap::new());
        assert_eq!(of("FROM --platform"), HashMap::new());
    }
}
