//! Hosts that have none yet.

use super::{Applied, Class, Limits, Missing, SandboxError};

/// Does nothing.
#[derive(Debug, Clone, Default)]
pub struct Confinement(());

impl Confinement {
    pub fn confine(&self, _class: Class) -> Result<(), SandboxError> {
        Ok(())
    }
}

/// Says that there is none.
pub fn enter(_limits: &Limits) -> Result<Applied, SandboxError> {
    Ok(Applied { confinement: Confinement::default(), missing: vec![Missing::Everything] })
}

/// Says the same.
pub fn missing() -> Result<Vec<Missing>, SandboxError> {
    Ok(vec![Missing::Everything])
}
