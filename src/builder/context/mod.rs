//! The sender's side of a build context: which files the daemon may see, and their transfer (fsutil's protocol).
//!
//! `glob`, `patterns`, `follow` and `filter` decide, `walk` and `stat` look, `packet` and `send` speak.

mod filter;
mod follow;
mod glob;
mod lexical;
mod packet;
mod paths;
mod patterns;
mod send;
mod stat;
mod walk;

pub(crate) use filter::Selection;
pub(crate) use packet::Packet;
pub(crate) use send::send;
