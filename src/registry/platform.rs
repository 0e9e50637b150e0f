//! What a program needs to run: `linux/arm/v7`.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

/// A platform in containerd's normal form (containerd/platforms, `Normalize`): `linux/arm64`, never
/// `linux/aarch64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Not a platform.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{0}\" is not a platform: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64 or linux/arm/v7"
)]
pub struct InvalidPlatform(String);

impl Platform {
    /// In normal form; the variant may be empty.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// That of an entry of an index, if it names one.
    pub(super) fn of_entry(entry: &Descriptor) -> Option<Self> {
        let platform = entry.platform().as_ref()?;
        let variant = platform.variant().as_deref().unwrap_or_default();
        Some(Self::new(&platform.os().to_string(), &platform.architecture().to_string(), variant))
    }

    /// Whether what runs this runs `wanted`: the same, an older ARM, or a level of amd64.
    pub fn covers(&self, wanted: &Self) -> bool {
        let version =
            |platform: &Self| -> Option<u8> { platform.variant.as_deref()?.strip_prefix('v')?.parse().ok() };
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (self.variant == wanted.variant
                || (self.architecture == "arm"
                    && version(self) > version(wanted)
                    && version(wanted).is_some())
                || (self.architecture == "amd64" && self.variant.is_none()))
    }
}

/// Those that may stand for themselves, as `docker buildx build` has it.
const ARCHITECTURES: [&str; 12] = [
    "amd64", "x86_64", "arm64", "aarch64", "arm", "armhf", "armel", "386", "i386", "ppc64le", "s390x",
    "riscv64",
];

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let word = |word: &str| {
            !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(invalid());
        }
        match parts.as_slice() {
            // That of this host, but for the kernel, which is Linux in every builder.
            ["local" | "linux"] => Ok(Self::new("linux", std::env::consts::ARCH, "")),
            [architecture] if ARCHITECTURES.contains(architecture) => {
                Ok(Self::new("linux", architecture, ""))
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    fn normal(text: &str) -> String {
        text.parse::<Platform>().unwrap().to_string()
    }

    #[test]
    fn normal_form() {
        for (written, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
            ("arm64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
        ] {
            assert_eq!(normal(written), expected, "{written}");
        }
        assert_eq!(normal("local"), normal(&format!("linux/{}", std::env::consts::ARCH)));
    }

    #[test]
    fn others_are_refused_with_an_example() {
        for text in ["", "lunix", "linux/", "linux/foo bar", "a/b/c/d", "linux/arm/"] {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "\"{text}\" is not a platform: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64 or linux/arm/v7"
                )
            );
        }
    }
}
