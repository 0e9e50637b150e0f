//! The whole product on a machine of our own: `mvm up`, a build for another processor, and a download.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::thread;

use sha2::{Digest, Sha256};

use crate::support::{KvmInstance, Outcome, Parts, is_inside_rig, on_kvm};

/// What is killed, and what `mvm status` says of it.
const KILLED: [(&str, &str); 3] = [
    ("machine", "signal: 9 (SIGKILL)"),
    ("supervise", "its supervisor was killed while it was ready"),
    ("passt", "passt"),
];
const DOWNLOAD: u32 = 2 << 20;

fn up(machine: &KvmInstance) {
    let up =
        machine.mvm(&["up", "--accel", "kvm", "--cpus", "2", "--memory", "1G", "--disk", "4G", "--json"]);
    let status: serde_json::Value =
        serde_json::from_str(&up.ok()).expect("`mvm up --json` prints the status");
    assert_eq!(status["engine"], "kvm");
    let lacks = status["lacks"].as_array().expect("what this host lacks is a list");
    // Where it has everything, that list is empty; Debian's kernel in the rig has Landlock, but not all of it.
    assert!(
        !is_inside_rig() || lacks.iter().any(|lack| lack.as_str().unwrap().contains("Landlock")),
        "{status}"
    );
}

fn build(machine: &KvmInstance, context: &Path) -> Outcome {
    let path = context.to_str().unwrap();
    let built = machine.mvm(&["build", "--platform", "linux/arm64", "--progress", "plain", path]);
    assert_eq!(built.status, 0, "{built}");
    built
}

#[test]
fn the_appliance_boots_builds_for_another_processor_and_downloads() {
    on_kvm(|| {
        let machine = KvmInstance::new();
        up(&machine);
        let context = tempfile::tempdir().unwrap();
        fs::copy(&Parts::here().busybox, context.path().join("busybox")).unwrap();
        let content: Vec<u8> = (0..DOWNLOAD).map(|at| (at / 4 % 251) as u8).collect();
        let sum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let download = is_inside_rig().then(|| serve(content));
        write_dockerfile(context.path(), download.as_ref().map(|(address, _)| *address));
        let built = build(&machine, context.path());
        assert!(built.stderr.contains("machine is aarch64"), "{built}");
        if let Some((_, served)) = download {
            assert!(built.stderr.contains(&format!("{sum}  /file")), "{built}");
            served.join().unwrap();
        }
        let processes = machine.processes();
        machine.mvm(&["down"]).ok();
        processes.expect_none();
    });
}

#[test]
#[ignore = "it takes minutes where KVM is nested; tests/lifecycle.rs does the same under QEMU"]
fn the_appliance_outlives_whatever_is_killed_of_it() {
    on_kvm(|| {
        let machine = KvmInstance::new();
        let context = tempfile::tempdir().unwrap();
        fs::copy(&Parts::here().busybox, context.path().join("busybox")).unwrap();
        write_dockerfile(context.path(), None);
        for (part, reason) in KILLED {
            up(&machine);
            let built = build(&machine, context.path());
            assert_eq!(
                built.stderr.contains("CACHED"),
                part != KILLED[0].0,
                "the cache outlives a kill: {built}"
            );
            let processes = machine.processes();
            processes.with_argument(part).kill();
            processes.expect_none();
            let status = machine.mvm(&["status"]);
            assert!(status.stdout.contains(reason), "{part}: {status}");
        }
    });
}

/// With a download through the guest's network card, where there is a server.
fn write_dockerfile(context: &Path, server: Option<SocketAddr>) {
    let add =
        server.map_or_else(|| "COPY busybox /file".to_owned(), |at| format!("ADD http://{at}/file /file"));
    let text = format!(
        "FROM scratch\n\
         COPY busybox /bin/busybox\n\
         {add}\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo machine is $(/bin/busybox uname -m); /bin/busybox sha256sum /file\"]\n"
    );
    fs::write(context.join("Dockerfile"), text).unwrap();
}

/// Serves this file over HTTP, once for each of the two requests that BuildKit makes: for its head, and for all of it.
fn serve(content: Vec<u8>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            stream.write_all(head.as_bytes()).unwrap();
            if request[..count].starts_with(b"GET") {
                stream.write_all(&content).unwrap();
                return;
            }
        }
    });
    (address, serving)
}

/// The address by which this host would go elsewhere: not its loopback, which no guest reaches.
fn own_address() -> Ipv4Addr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).unwrap();
    match socket.local_addr().unwrap() {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(address) => panic!("{address}"),
    }
}
