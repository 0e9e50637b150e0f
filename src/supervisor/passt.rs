//! The network process of a machine on Linux: passt, in user mode, joined by a stream socket.
//!
//! The guest gets a route to everything that the host's user can reach except the host itself: no address leads to the
//! host's loopback (`--no-map-gw`), no port is forwarded to the guest. DNS is the one exception: queries to [`DNS`] go
//! to the host's own resolver, even where that listens on a loopback address.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// The guest's address, with the length of the network's prefix.
pub const ADDRESS: &str = "10.0.2.15";
pub const PREFIX: &str = "24";
pub const GATEWAY: &str = "10.0.2.2";
pub const DNS: &str = "10.0.2.3";

/// The option that tells a passt which keeps the guest from the host's loopback. Older ones let a guest in
/// that simply sends to 127.0.0.1, whatever their options: seen with that of 2023-03-09.
const MARK: &str = "--map-host-loopback";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the network process {program}: {source}; install the package passt")]
    Start { program: String, source: io::Error },
}

/// Whether a passt whose `--help` says this is one that can be used.
pub fn is_recent(help: &str) -> bool {
    help.contains(MARK)
}

/// The word `mvm.net=` of the kernel command line that agrees with [`arguments`].
pub fn kernel_word() -> String {
    format!("{}={ADDRESS}/{PREFIX},{GATEWAY},{DNS}", protocol::kernel_args::NET)
}

/// passt's arguments when its end of the stream socket is its standard input.
fn arguments() -> [&'static str; 22] {
    [
        // Not a daemon: it ends when the socket does, and its messages go to our log.
        "--foreground",
        "--quiet",
        "--fd",
        "0",
        "--ipv4-only",
        "--address",
        ADDRESS,
        "--netmask",
        PREFIX,
        "--gateway",
        GATEWAY,
        "--no-map-gw",
        "--dns-forward",
        DNS,
        // The guest has its address from the kernel command line.
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ndp",
        "--no-ra",
        // Nothing listens on the host for the guest.
        "--tcp-ports",
        "none",
        "--udp-ports",
        "none",
    ]
}

/// Starts it; returns the machine's end of the socket too.
pub fn spawn(command: &[String]) -> Result<(Child, OwnedFd), Error> {
    let program = command.first().map_or("passt", String::as_str);
    let failed = |source| Error::Start { program: program.to_owned(), source };
    let (ours, machines) = UnixStream::pair().map_err(failed)?;
    let child = Command::new(program)
        .args(command.iter().skip(1))
        .args(arguments())
        .stdin(Stdio::from(OwnedFd::from(ours)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    Ok((child, machines.into()))
}

#[cfg(test)]
mod tests {
    use super::{arguments, is_recent, kernel_word};

    #[test]
    fn no_way_to_the_hosts_loopback() {
        let arguments = arguments();
        assert!(arguments.contains(&"--no-map-gw"));
        assert!(!arguments.iter().any(|word| word.contains("--map-host-loopback")));
        for option in ["--tcp-ports", "--udp-ports"] {
            let at = arguments.iter().position(|word| *word == option).unwrap();
            assert_eq!(arguments[at + 1], "none");
        }
    }

    #[test]
    fn guest_is_told_the_same_addresses() {
        assert_eq!(kernel_word(), "mvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3");
        let arguments = arguments().join(" ");
        assert!(arguments.contains("--address 10.0.2.15 --netmask 24 --gateway 10.0.2.2"), "{arguments}");
        assert!(arguments.contains("--dns-forward 10.0.2.3"), "{arguments}");
    }

    #[test]
    fn old_passt_is_told_by_its_help() {
        assert!(!is_recent("  --no-map-gw  ...\n  --dns-forward ADDR"));
        assert!(is_recent("  --map-host-loopback ADDR\tTranslate ADDR to refer to host"));
    }
}
