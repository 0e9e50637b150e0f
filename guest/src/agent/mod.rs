//! What the host can reach in the guest: the RPC, and byte streams to dockerd, BuildKit and TCP ports.

mod connection;
mod exec;
mod host_ports;
mod proxy;
mod pty;
mod rpc;
mod streams;
mod usage;

use std::io;
use std::sync::Arc;

use protocol::ports;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::system::System;

/// Starts to listen on every port of the contract. A machine without vsock boots all the same.
pub(crate) fn listen(system: &Arc<System>) {
    let started = bind(ports::AGENT).map(|listener| {
        tokio::spawn(rpc::serve(listener, Arc::clone(system)));
    });
    let started = started.and_then(|()| {
        for target in [proxy::Target::Docker, proxy::Target::BuildKit, proxy::Target::Tunnel] {
            tokio::spawn(proxy::serve(bind(target.port())?, target, system.logs.clone()));
        }
        Ok(())
    });
    if let Err(error) = started {
        system.logs.say(format!("cannot listen on vsock: {error}; the host cannot reach the guest"));
    }
}

fn bind(port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
}
