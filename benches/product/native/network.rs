//! The network card, with passt behind it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use images::progress::Silent;
use images::{Directories, Pins, tools};

use super::BOTH;
use super::guest::Guest;
use super::process::Vmm;
use super::values::{MIB, RUNS, rate, report};
use crate::support::{Parts, eventually};

/// L1's own address (tests/rig/src/init/serve.rs).
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);

/// One stream of TCP between the guest and a server of this machine, through passt.
pub(super) fn measure(qemu: &[String]) {
    for _ in 0..RUNS {
        for (figure, action) in [("net-down", "download"), ("net-up", "upload")] {
            for of in BOTH {
                let (address, served) = serve(action == "download");
                let passt = Passt::start(Path::new("/tmp/passt.sock"));
                let words = format!("rig.do={action} rig.peer={address} rig.mib={MIB}");
                let guest = Guest { socket: Some(passt.socket.clone()), ..Guest::doing(words) };
                report(figure, "MiB/G", of, rate(Vmm::start(guest.command(of, qemu))));
                served.join().expect("the server goes on to its end");
            }
        }
    }
}

/// Gives one guest what it wants, or takes what it has.
fn serve(gives: bool) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((HOST, 0)).expect("an address of this machine");
    let address = listener.local_addr().expect("it is bound").to_string();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the guest connects");
        let mut piece = vec![0x5a; 128 * 1024];
        if gives {
            for _ in 0..(MIB << 20) / piece.len() as u64 {
                stream.write_all(&piece).expect("the guest reads");
            }
        } else {
            while stream.read(&mut piece).expect("the guest writes") > 0 {}
            stream.write_all(&[0]).expect("the guest waits for it");
        }
    });
    (address, served)
}

/// The network process of one guest.
struct Passt {
    child: Child,
    socket: PathBuf,
}

impl Passt {
    fn start(socket: &Path) -> Self {
        let data = Parts::here().data.join("mvm");
        let directories = Directories { cache: data.join("cache"), data };
        let passt = tools::ensure("passt", &directories, Pins::Exact, &Silent).expect("passt is unpacked");
        let (program, before) = passt.command.split_first().expect("its command is not empty");
        let _ = std::fs::remove_file(socket);
        let mut command = Command::new(program);
        command.args(before).args(["--foreground", "--quiet", "--runas", "0", "--socket"]).arg(socket);
        command.args(["--ipv4-only", "--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2"]);
        command.args(["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"]);
        command.args(["--tcp-ports", "none", "--udp-ports", "none"]);
        let child = command.spawn().expect("passt starts");
        eventually("passt's socket", 60, || if socket.exists() { Ok(()) } else { Err(String::new()) });
        Self { child, socket: socket.to_owned() }
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
