//! The whole product on a machine of our own: `mvm up`, a build for another processor, and a download.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::support::{Outcome, Parts, Processes, is_inside_rig, on_kvm, run};

/// An instance with directories of its own, where KVM is.
struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for directory in ["run", "state", "cache", "config"] {
            fs::create_dir(home.path().join(directory)).unwrap();
        }
        Self { home }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let parts = Parts::here();
        let mut command = Command::new(&parts.mvm);
        command.args(arguments).env("HOME", self.home.path()).env("XDG_DATA_HOME", &parts.data);
        for (variable, directory) in [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
        ] {
            command.env(variable, self.home.path().join(directory));
        }
        command
    }

    #[track_caller]
    fn mvm(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }
}

/// A test that fails leaves no machine.
impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

#[test]
fn the_appliance_boots_builds_for_another_processor_and_downloads() {
    on_kvm(|| {
        let machine = Machine::new();
        let up =
            machine.mvm(&["up", "--accel", "kvm", "--cpus", "2", "--memory", "1G", "--disk", "4G", "--json"]);
        let status: serde_json::Value =
            serde_json::from_str(&up.ok()).expect("`mvm up --json` prints the status");
        assert_eq!(status["engine"], "kvm");
        let context = tempfile::tempdir().unwrap();
        fs::copy(&Parts::here().busybox, context.path().join("busybox")).unwrap();
        let download = is_inside_rig().then(|| serve(vec![b'x'; DOWNLOAD]));
        write_dockerfile(context.path(), download.as_ref().map(|(address, _)| *address));
        let path = context.path().to_str().unwrap();
        let built = machine.mvm(&["build", "--platform", "linux/arm64", "--progress", "plain", path]);
        assert_eq!(built.status, 0, "{built}");
        assert!(built.stderr.contains("machine is aarch64"), "{built}");
        if let Some((_, served)) = download {
            assert!(built.stderr.contains(&format!("{DOWNLOAD} /file")), "{built}");
            served.join().unwrap();
        }
        let processes = Processes::of(machine.home.path());
        machine.mvm(&["down"]).ok();
        processes.expect_none();
    });
}

const DOWNLOAD: usize = 5 << 20;

/// With a download through the guest's network card, where there is a server.
fn write_dockerfile(context: &Path, server: Option<SocketAddr>) {
    let add =
        server.map_or_else(|| "COPY busybox /file".to_owned(), |at| format!("ADD http://{at}/file /file"));
    let text = format!(
        "FROM scratch\n\
         COPY busybox /bin/busybox\n\
         {add}\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo machine is $(/bin/busybox uname -m); /bin/busybox wc -c /file\"]\n"
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
