//! An interrupt line of the board, as the device at its end sees it.

use std::fmt;
use std::sync::Arc;

/// Raises one interrupt at a time: an edge.
#[derive(Clone)]
pub struct Line(Arc<dyn Fn() + Send + Sync>);

impl Line {
    pub fn new(raise: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(raise))
    }

    pub fn raise(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}
