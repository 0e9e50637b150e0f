//! The processor architectures that appliances are made for, and what Debian calls their parts.

/// One architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Debian's name, which is also OCI's.
    pub(crate) debian: &'static str,
    /// The directory below `/usr/lib` that holds the libraries.
    pub(crate) triple: &'static str,
    /// The dynamic loader, below the root.
    pub(crate) loader: &'static str,
}

const AMD64: Architecture = Architecture {
    debian: "amd64",
    triple: "x86_64-linux-gnu",
    loader: "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
};

const ARM64: Architecture = Architecture {
    debian: "arm64",
    triple: "aarch64-linux-gnu",
    loader: "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
};

/// This machine is of no architecture that appliances are made for.
#[derive(Debug, thiserror::Error)]
#[error("appliances are made on x86_64 and aarch64 machines, and this is {0}")]
pub struct UnknownArchitecture(&'static str);

impl Architecture {
    /// That of the machine on which this runs.
    pub(crate) fn host() -> Result<Self, UnknownArchitecture> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(AMD64),
            "aarch64" => Ok(ARM64),
            other => Err(UnknownArchitecture(other)),
        }
    }
}
