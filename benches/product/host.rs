//! The appliance's builder on this host itself, without a machine around it. Where machines are emulated, both clients wait for the
//! guest nearly all of their time; here it shows what they cost themselves.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::builds::{self, Bench};
use crate::report::Figure;
use crate::support::{Appliance, Instance, eventually};
use crate::transfers;

/// In namespaces of its own, which end with it, and it ends with its input. What a builder keeps is in memory, and disks are not
/// measured.
const DAEMONS: &str = r#"set -e
cd "$1"
mkdir lower upper root
mount -t erofs -o loop,ro "$2" lower
mount -t tmpfs tmpfs upper
mkdir upper/files upper/work
mount -t overlay -o lowerdir=lower,upperdir=upper/files,workdir=upper/work overlay root
root=$PWD/root/containers/services/containerd/rootfs
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --bind run "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o size=75% tmpfs "$root/var/lib"
mkdir -p run/containerd
chroot "$root" /usr/bin/containerd --config /etc/containerd/config.toml < /dev/null > log 2>&1 &
while ! [ -S run/containerd/containerd.sock ]; do sleep 0.1; done
chroot "$root" /usr/sbin/dockerd --config-file /etc/docker/daemon.json --bridge none < /dev/null >> log 2>&1 &
read -r end"#;

/// Asks dockerd for BuildKit's control API, as the guest's agent does.
const UPGRADE: &[u8] =
    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";

pub(crate) fn measure() -> Vec<Figure> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: a builder on the host itself, which only root can start");
        return Vec::new();
    }
    let (instance, daemons) = start();
    let bench = Bench::of(instance, "host-");
    // There is no supervisor that would let a build push to this host.
    let mut figures = vec![builds::unchanged(&bench, &transfers::KEEP_NOTHING)];
    figures.extend(transfers::all(&bench));
    drop(bench);
    stop(daemons);
    figures.into_iter().map(|figure| figure.on("host")).collect()
}

/// What both clients take for an instance that is up, and the process that is behind it.
fn start() -> (Instance, Child) {
    let instance = Instance::prepared("host");
    let state = instance.state();
    fs::create_dir_all(&state).expect("a directory for the state");
    fs::write(
        state.join("instance.json"),
        r#"{"cpus": 2, "memory_mib": 1024, "disk_gib": 1, "accel": "auto"}"#,
    )
    .expect("the instance's configuration is written");
    let sockets = instance.docker_socket().parent().expect("it is in a directory").to_owned();
    let top = instance.home().join("builder");
    fs::create_dir_all(top.join("run")).expect("a directory for the builder");
    // As `mvm up` makes them.
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true).create(&sockets).expect("a directory for the sockets");
    let docker = top.join("run/docker.sock");
    std::os::unix::fs::symlink(&docker, instance.docker_socket()).expect("dockerd's socket has its name");

    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", DAEMONS, "builder"]);
    unshare.arg(&top).arg(&Appliance::built().root).stdin(Stdio::piped());
    let daemons = unshare.spawn().expect("unshare starts");
    eventually("dockerd to answer", 120, || {
        upgraded(&docker)
            .map_err(|error| format!("{error}\n{}", fs::read_to_string(top.join("log")).unwrap_or_default()))
    });
    let listener = UnixListener::bind(instance.buildkit_socket()).expect("a socket for BuildKit's API");
    thread::spawn(move || join_all(&listener, &docker));
    (instance, daemons)
}

fn stop(mut daemons: Child) {
    drop(daemons.stdin.take());
    daemons.wait().expect("the builder's processes are waited for");
}

/// A connection that speaks BuildKit's API from now on.
fn upgraded(docker: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(docker)?;
    stream.write_all(UPGRADE)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(stream)
}

fn join_all(listener: &UnixListener, docker: &Path) {
    for client in listener.incoming() {
        let client = client.expect("a client is accepted");
        let docker = PathBuf::from(docker);
        thread::spawn(move || -> io::Result<()> {
            let builder = upgraded(&docker)?;
            let (from, to) = (client.try_clone()?, builder.try_clone()?);
            let there = thread::spawn(move || copy(from, to));
            copy(builder, client);
            drop(there.join());
            Ok(())
        });
    }
}

/// Until either end is gone.
fn copy(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = vec![0; 128 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
