//! What the guest may reach of the host, and what not.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use support::{Base, Instance, Options, Outcome, Registry, docker, eventually, run, skipped};

/// A page on a free port of the host's loopback, for as long as the tests run.
fn page() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nof the host");
        }
    });
    port
}

#[test]
fn the_hosts_loopback_is_reachable_where_it_was_opened_and_nowhere_else() {
    if skipped("network") {
        return;
    }
    let (opened, closed) = (page(), page());
    let registry = Registry::open();
    let instance = Instance::up_with("net", &Options::up(&["--host-port", &opened.to_string()]));
    let base = Base::push(&instance, &registry);
    instance.mvm(&["run", "--rm", &base.image, "true"]).ok();
    let fetch = |address: &str, port: u16, seconds: &str| -> Outcome {
        let url = format!("http://{address}:{port}/");
        let mut client = docker(&instance.docker_socket());
        client.args([
            "run",
            "--rm",
            "--network",
            "host",
            &base.image,
            "wget",
            "-q",
            "-T",
            seconds,
            "-O",
            "-",
            &url,
        ]);
        run(&mut client)
    };
    assert_eq!(fetch("127.0.0.1", opened, "300").ok(), "of the host");
    fetch("127.0.0.1", closed, "300").refused(1, "Connection refused");
    eventually("the port of a registry that no command names any more is closed again", 300, || {
        let refused = fetch("127.0.0.1", registry.port, "300");
        if refused.stderr.contains("Connection refused") { Ok(()) } else { Err(refused.to_string()) }
    });
    // Nor does the network between host and guest lead to the loopback: not by the gateway's address.
    for port in [opened, closed] {
        let refused = fetch("10.0.2.2", port, "10");
        assert_ne!(refused.status, 0, "{refused}");
        assert!(!refused.stdout.contains("of the host"), "{refused}");
    }
}
