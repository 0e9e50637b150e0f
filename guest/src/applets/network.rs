//! `network`: eth0's address, the default route and the resolver, from `mvm.net`.

use std::io;

use super::Context;
use crate::kernel_args::NetworkWord;

const RESOLVER: &str = "/run/resolvconf/resolv.conf";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Argument(String),
    #[error(transparent)]
    Interface(#[from] crate::net::Error),
    #[error("cannot write {what}: {source}")]
    Write { what: &'static str, source: io::Error },
}

pub(super) fn run(context: &Context<'_>) -> Result<(), Error> {
    let network = match context.network {
        Some(Ok(network)) => network,
        Some(Err(error)) => return Err(Error::Argument(error.to_string())),
        None => {
            context.say(&format!("no {}: the guest has no network", protocol::kernel_args::NET));
            return Ok(());
        }
    };
    crate::net::configure(network)?;
    write(RESOLVER, &resolver(network))?;
    // What containers send goes out through eth0.
    write(FORWARD, "1")
}

fn resolver(network: &NetworkWord) -> String {
    format!("# from {} on the kernel command line\nnameserver {}\n", protocol::kernel_args::NET, network.dns)
}

fn write(path: &'static str, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { what: path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_the_one_that_the_host_named() {
        let network = "10.0.2.15/24,10.0.2.2,10.0.2.3".parse().unwrap();
        assert_eq!(resolver(&network), "# from mvm.net on the kernel command line\nnameserver 10.0.2.3\n");
    }
}
