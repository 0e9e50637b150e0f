//! Where everything in an appliance comes from: kept with each entry while the root is put together, stored with the
//! appliance, and told by `mvm image explain`.

mod container;
mod document;
mod explain;
mod origin;

pub(crate) use container::fields;
pub use container::{By, Container, Field, Said};
pub use document::{Provenance, ProvenanceError};
pub use explain::{Answer, Found, Unknown};
pub use origin::{ImageId, Item, Layer, Material, Origin, Package};
