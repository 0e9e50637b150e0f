//! What the host has to be like, checked before anything is made, each with a sentence.

use images::tools::IsolationError;

/// What the host lacks.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    #[error(
        "the appliance is made for x86_64 hosts only so far, and this host is {0}; use an x86_64 machine"
    )]
    Architecture(String),
    /// The kernel is compiled in one, and passt shuts itself in one.
    #[error(transparent)]
    UserNamespaces(#[from] IsolationError),
}

/// Fails with the first thing that this host lacks.
pub fn check() -> Result<(), Lack> {
    architecture(std::env::consts::ARCH)?;
    // Tried rather than read from settings: a container may forbid what the settings allow.
    Ok(images::tools::check_isolation()?)
}

fn architecture(name: &str) -> Result<(), Lack> {
    if name == "x86_64" { Ok(()) } else { Err(Lack::Architecture(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::architecture;

    #[test]
    fn arm64_host() {
        assert_eq!(
            architecture("aarch64").unwrap_err().to_string(),
            "the appliance is made for x86_64 hosts only so far, and this host is aarch64; use an x86_64 machine"
        );
        architecture("x86_64").unwrap();
    }
}
