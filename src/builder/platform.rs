//! Whether the appliance can build for a platform, by what it found out about itself.

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
}

/// Refuses a platform that is known not to run, or not known at all.
pub fn check(platform: &Platform, known: &[Known]) -> Result<(), CannotRun> {
    let mut reason = "the appliance has no emulator for it".to_owned();
    for candidate in known.iter().filter(|candidate| covers(&candidate.platform, platform)) {
        match &candidate.broken {
            None => return Ok(()),
            Some(broken) => broken.clone_into(&mut reason),
        }
    }
    Err(CannotRun { platform: platform.clone(), reason })
}

/// Whether what runs on `known` tells of `wanted`: the same, an older ARM, or a level of amd64.
fn covers(known: &Platform, wanted: &Platform) -> bool {
    let version =
        |platform: &Platform| -> Option<u8> { platform.variant.as_deref()?.strip_prefix('v')?.parse().ok() };
    known.os == wanted.os
        && known.architecture == wanted.architecture
        && (known.variant == wanted.variant
            || (known.architecture == "arm" && version(known) > version(wanted) && version(wanted).is_some())
            || (known.architecture == "amd64" && known.variant.is_none()))
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
            Known { platform: platform("linux/amd64"), broken: None },
            Known { platform: platform("linux/arm/v7"), broken: None },
            Known {
                platform: platform("linux/s390x"),
                broken: Some("it is not registered in binfmt_misc".to_owned()),
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
}
