//! Whether the appliance can build for a platform, by what it found out about itself.

use std::collections::HashMap;

use thiserror::Error;

use crate::registry::Platform;

/// Why nothing is built for a platform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{platform} cannot run here: {reason}; `mvm status` shows what can")]
pub struct CannotRun {
    platform: Platform,
    reason: String,
}

/// What is known of a platform in the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub platform: Platform,
    /// Why it does not run, if it does not.
    pub broken: Option<String>,
    /// What executes it, "qemu-aarch64 10.0.13"; the processor itself where there is none.
    pub emulator: Option<String>,
}

/// Of stages that do not simply run on the platform that is built for: which one they run on, where that is known. A single stage
/// without a name is called nothing.
pub type Stages = HashMap<String, Option<Platform>>;

/// What is known of the platforms of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platforms {
    /// Those that were asked for; none is the builder's own.
    pub asked: Vec<Platform>,
    pub known: Vec<Known>,
    pub stages: Stages,
}

impl Platforms {
    /// Refuses one that is known not to run, or not known at all.
    pub fn check(&self) -> Result<(), CannotRun> {
        self.asked.iter().try_for_each(|platform| check(platform, &self.known))
    }

    /// The platform that a step runs on, and what emulates it. A step is named for its platform where there are several, and behind
    /// it what it builds for: `[linux/arm64 build 2/3] RUN make`, `[linux/amd64->arm64 build 2/3] RUN make`. Where there are several nodes,
    /// its own comes first: `[near linux/arm64 2/3] RUN make`.
    pub(super) fn emulated(&self, step: &str) -> Option<(Platform, &str)> {
        let known = |platform: &Platform| self.known.iter().find(|known| known.platform.covers(platform));
        let inside = step.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or_default();
        // The first word, or the one behind a node's name. `2/3` would be a platform too, but none that is known.
        let parsed = |word: &str| word.split("->").next()?.parse().ok();
        let named = inside.split(' ').take(2).filter_map(parsed).find(|named| known(named).is_some());
        let of_stage = || match (self.stages.get(stage(inside)), self.asked.as_slice()) {
            (Some(own), _) => own.clone(),
            (None, [only]) => Some(only.clone()),
            _ => None,
        };
        let platform = named.or_else(of_stage)?;
        let emulator = known(&platform)?.emulator.as_deref()?;
        Some((platform, emulator))
    }
}

/// `build` of `near build 2/3`; a stage may have no name.
fn stage(step: &str) -> &str {
    let mut words = step.rsplit(' ').skip(1);
    words.next().unwrap_or_default()
}

fn check(platform: &Platform, known: &[Known]) -> Result<(), CannotRun> {
    let mut reason = "the appliance has no emulator for it".to_owned();
    for candidate in known.iter().filter(|candidate| candidate.platform.covers(platform)) {
        match &candidate.broken {
            None => return Ok(()),
            Some(broken) => broken.clone_into(&mut reason),
        }
    }
    Err(CannotRun { platform: platform.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn what_does_not_run_is_refused_with_the_reason() {
        let known = [
            Known { platform: platform("linux/amd64"), broken: None, emulator: None },
            Known { platform: platform("linux/arm/v7"), broken: None, emulator: None },
            Known {
                platform: platform("linux/s390x"),
                broken: Some("it is not registered in binfmt_misc".to_owned()),
                emulator: None,
            },
        ];
        for good in ["linux/amd64", "linux/amd64/v2", "linux/arm/v7", "linux/arm/v6"] {
            assert_eq!(check(&platform(good), &known), Ok(()), "{good}");
        }
        assert_eq!(
            check(&platform("linux/s390x"), &known).unwrap_err().to_string(),
            "linux/s390x cannot run here: it is not registered in binfmt_misc; `mvm status` shows what can"
        );
        assert_eq!(
            check(&platform("windows/amd64"), &known).unwrap_err().to_string(),
            "windows/amd64 cannot run here: the appliance has no emulator for it; `mvm status` shows what can"
        );
        assert!(check(&platform("linux/arm/v8"), &known).is_err());
    }

    #[test]
    fn a_step_is_emulated_where_its_platform_is() {
        let known = vec![
            Known { platform: platform("linux/amd64"), broken: None, emulator: None },
            Known {
                platform: platform("linux/arm/v7"),
                broken: None,
                emulator: Some("qemu-arm 10".to_owned()),
            },
        ];
        let both = Platforms {
            asked: vec![platform("linux/amd64"), platform("linux/arm/v6")],
            known,
            ..Platforms::default()
        };
        assert_eq!(
            both.emulated("[linux/arm/v6 build 2/3] RUN x"),
            Some((platform("linux/arm/v6"), "qemu-arm 10"))
        );
        assert_eq!(
            both.emulated("[near linux/arm/v6 2/3] RUN x"),
            Some((platform("linux/arm/v6"), "qemu-arm 10"))
        );
        assert_eq!(both.emulated("[linux/amd64->arm/v6 2/3] RUN x"), None, "it runs where the builder does");
        for native in [
            "[linux/amd64 2/3] RUN x",
            "[2/3] RUN linux/arm/v7",
            "[build 1/2] RUN x",
            "exporting",
            "[internal] x",
        ] {
            assert_eq!(both.emulated(native), None, "{native}");
        }
        let mut one = Platforms { asked: vec![platform("linux/arm/v7")], ..both };
        let emulated = || Some((platform("linux/arm/v7"), "qemu-arm 10"));
        assert_eq!(one.emulated("[2/3] RUN x"), emulated());
        assert_eq!(one.emulated("[build 2/3] RUN x"), emulated());
        one.stages.insert("build".to_owned(), None);
        assert_eq!(one.emulated("[build 2/3] RUN x"), None, "it runs on the builder's own platform");
        assert_eq!(one.emulated("[stage-1 2/3] RUN x"), emulated());
        one.asked.clear();
        one.stages.insert(String::new(), Some(platform("linux/arm/v7")));
        assert_eq!(one.emulated("[2/3] RUN x"), emulated(), "it says so itself");
    }
}
