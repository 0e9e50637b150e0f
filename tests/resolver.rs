//! Names resolve in the guest where the host's own resolver listens on a loopback address, as systemd-resolved does.
//!
//! The test makes itself such a host: it starts itself again in network and mount namespaces of its own, with a resolver
//! on 127.0.0.53 and an /etc/resolv.conf that names it.

mod support;

use std::net::UdpSocket;
use std::process::Command;

use support::{Base, Instance, Registry, run, skipped};

/// What the resolver answers to every name (RFC 5737: for documentation).
const ADDRESS: [u8; 4] = [192, 0, 2, 7];
const INSIDE: &str = "resolver_inside";

/// A host with one interface that leads nowhere, and the resolver's address in $1 as its resolv.conf.
const HOST: &str = r#"
set -e
ip link set lo up
ip link add uplink type bridge
ip address add 10.99.0.2/24 dev uplink
ip link set uplink up
ip route add default via 10.99.0.1
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"#;

#[test]
fn a_resolver_on_a_loopback_address_is_used() {
    if skipped("resolver") {
        return;
    }
    // What needs the real network is fetched here, outside.
    Base::prefetch();
    Instance::prepared("prefetch").mvm(&["image", "build"]).ok();
    let directory = tempfile::tempdir().unwrap();
    let resolv = directory.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.53\n").unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-c", HOST, "sh"]).arg(resolv);
    run(command.arg(program).args(["--exact", INSIDE, "--ignored", "--nocapture"])).ok();
}

#[test]
#[ignore = "runs inside the host that a_resolver_on_a_loopback_address_is_used makes"]
fn resolver_inside() {
    let socket = UdpSocket::bind("127.0.0.53:53").expect("this test is started by another one");
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    let instance = Instance::up("dns");
    let registry = Registry::open();
    let base = Base::push(&instance, &registry);
    let found = instance.mvm(&["run", "--rm", &base.image, "nslookup", "-type=a", "some.name.test"]);
    assert!(found.stdout.contains("192.0.2.7"), "{found}\n{}", instance.logs());
}

/// To a query for an IPv4 address our one address, to others none (RFC 1035, 4.1).
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = query.get(12..)?.iter().position(|length| *length == 0)?;
    let question = query.get(12..12 + name + 5)?;
    let is_address = question.ends_with(&[0, 1, 0, 1]);
    // Identifier; response, recursion available; one question, none or one answer, nothing else.
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question);
    if is_address {
        // The name is the question's; type A, class IN, 60 seconds, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ADDRESS);
    }
    Some(answer)
}
