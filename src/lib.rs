//! The host side of mvm: the command line, the supervisor of an instance, and the clients of what runs in the guest.
//!
//! A library only so that tests can call what the program calls.

pub mod agent;
pub mod builder;
pub mod builders;
mod chain;
pub mod cli;
pub mod docker;
pub mod foreground;
pub mod instance;
pub mod machine;
mod printable;
pub mod registry;
pub mod supervisor;
mod template;
mod terminal;
