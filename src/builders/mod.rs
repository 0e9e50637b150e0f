//! Builders of several nodes: where their nodes are (`address`), which of them builds for a platform (`route`), and the files that
//! remember them (`store`). An instance is a builder too, of one node, and has no file.

mod address;
mod route;
mod store;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use address::{Address, InvalidAddress};
pub use route::{NoNode, Offer, route};
pub use store::{Builders, StoreError};

use crate::builder::{Endpoint, Tls};
use crate::instance::{Home, Name};
use crate::registry::Platform;

/// A name for one node or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    pub name: Name,
    pub nodes: Vec<Node>,
}

/// Something that builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: Name,
    #[serde(rename = "endpoint")]
    pub address: Address,
    /// What it is to build before all others, whatever it says of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Keys>,
    /// Its instance was made for the builder, and goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_own: bool,
}

/// The files of a connection over TLS, absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub cacert: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servername: Option<String>,
}

impl Builder {
    /// One of a single node, by that node's name.
    pub fn of(name: Name, address: Address) -> Self {
        let node = Node { name: name.clone(), address, platforms: Vec::new(), tls: None, is_own: false };
        Self { name, nodes: vec![node] }
    }
}

impl Node {
    /// The instance that it is, if it is one of this machine.
    pub fn instance(&self) -> Option<&Name> {
        match &self.address {
            Address::Instance(name) => Some(name),
            _ => None,
        }
    }

    /// How it is reached.
    pub fn endpoint(&self, home: &Home) -> Endpoint {
        match &self.address {
            Address::Instance(name) => {
                let paths = home.instance(name);
                Endpoint::Instance { buildkit: paths.buildkit_socket(), docker: paths.docker_socket() }
            }
            Address::Unix(socket) => Endpoint::Unix(socket.clone()),
            Address::Tcp(authority) => {
                let tls = self.tls.clone().map(|keys| Tls {
                    ca: keys.cacert,
                    identity: keys.cert.zip(keys.key),
                    server_name: keys.servername,
                });
                Endpoint::Tcp { authority: authority.clone(), tls }
            }
            Address::Ssh(there) => Endpoint::Program(there.command(&["dial-stdio"])),
        }
    }
}
