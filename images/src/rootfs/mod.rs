//! The root image: what all components put into it, as one tree, and that tree as a file system.

pub(crate) mod bundle;
mod content;
pub(crate) mod cpio;
pub(crate) mod erofs;
pub(crate) mod links;
pub(crate) mod mounts;
pub(crate) mod oci;
pub(crate) mod pack;
pub(crate) mod squashfs;
pub(crate) mod tarball;
mod tree;
pub(crate) mod verity;

pub(crate) use content::{Content, Digest, Spool};
pub(crate) use oci::OciError;
pub(crate) use tree::{DeviceKind, Entry, Node, Tree};
