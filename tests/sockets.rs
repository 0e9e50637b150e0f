//! The instance's sockets, by clients that know nothing of mvm, and under load.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use support::{
    BUILDX, Base, Instance, Options, Registry, context, docker, docker_configured_by, eventually, free_port,
    run, skipped, start,
};

/// What the tests here share.
struct Shared {
    instance: Instance,
    registry: Registry,
    base: Base,
}

/// The registry's port is open for the guest as long as the instance runs: buildx, unlike mvm, opens none.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let registry = Registry::open();
        let port = registry.port.to_string();
        let instance = Instance::up_with("shared", &Options::up(&["--host-port", &port]));
        let base = Base::push(&instance, &registry);
        Shared { instance, registry, base }
    })
}

#[test]
fn dockers_own_client_is_answered() {
    if skipped("sockets") {
        return;
    }
    let socket = shared().instance.docker_socket();
    let version = run(docker(&socket).args(["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"])).ok();
    assert_eq!(version.trim(), "linux/amd64");
    let driver = run(docker(&socket).args(["info", "--format", "{{.DriverStatus}}"])).ok();
    assert!(driver.contains("io.containerd.snapshotter"), "the image store is containerd's: {driver}");
}

#[test]
fn buildx_builds_through_the_remote_driver() {
    if skipped("sockets") {
        return;
    }
    let Shared { instance, registry, base } = shared();
    let directory = context(&[("Dockerfile", &format!("FROM {}\nRUN uname -m > /machine\n", base.image))]);
    let home = tempfile::tempdir().unwrap();
    let buildx = |arguments: &[&str]| {
        let mut command = docker(&instance.docker_socket());
        run(command.env("BUILDX_CONFIG", home.path()).arg("buildx").args(arguments)).ok()
    };
    let endpoint = format!("unix://{}", instance.buildkit_socket().display());
    buildx(&["create", "--name", "mvm", "--driver", "remote", &endpoint]);
    let image = registry.image("buildx:latest");
    let output = format!("type=image,name={image},push=true,registry.insecure=true");
    let path = directory.path().to_str().unwrap();
    let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
    buildx(&[
        "build",
        "--builder",
        "mvm",
        "--provenance=false",
        "--platform",
        platforms,
        "--output",
        &output,
        path,
    ]);
    let seen = instance.mvm(&["imagetools", "inspect", &image]).ok();
    for platform in platforms.split(',') {
        assert!(seen.contains(&format!("Platform:  {platform}\n")), "{seen}");
    }
}

/// Both buildx of Debian, with nothing set but what `mvm context` has written.
#[test]
fn clients_are_told_of_the_builder_and_told_no_more() {
    if skipped("sockets") {
        return;
    }
    let Shared { instance, registry, base } = shared();
    let directory = context(&[("Dockerfile", &format!("FROM {}\nRUN uname -m > /machine\n", base.image))]);
    let path = directory.path().to_str().unwrap();
    for suite in BUILDX {
        let configuration = tempfile::tempdir().unwrap();
        let docker =
            |arguments: &[&str]| run(docker_configured_by(configuration.path(), suite).args(arguments));
        let mvm = |arguments: &[&str]| {
            run(instance.command().env("DOCKER_CONFIG", configuration.path()).args(arguments))
        };
        mvm(&["context", "add", "--use"]).ok();
        assert_eq!(docker(&["context", "show"]).ok(), "mvm-shared\n", "{suite}");
        docker(&["version", "--format", "{{.Server.Version}}"]).ok();
        // The daemon itself, and BuildKit's own protocol.
        for builder in ["mvm-shared", "mvm-shared-buildkit"] {
            let image = registry.image(&format!("{suite}-{builder}:1"));
            let output = format!("type=image,name={image},push=true,registry.insecure=true");
            let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
            let mut words =
                vec!["buildx", "build", "--platform", platforms, "--provenance=false", "-o", &output, path];
            if builder != "mvm-shared" {
                words.extend(["--builder", builder]);
            }
            docker(&words).ok();
            let seen = docker(&["buildx", "imagetools", "inspect", &image]).ok();
            let ours = instance.mvm(&["imagetools", "inspect", &image]).ok();
            for platform in platforms.split(',') {
                assert!(seen.contains(platform) && ours.contains(platform), "{seen}{ours}");
            }
        }
        for words in [
            &["buildx", "du"][..],
            &["buildx", "ls"],
            &["buildx", "prune", "--force", "--filter", "until=24h"],
        ] {
            docker(words).ok();
        }
        mvm(&["context", "rm", "shared"]).ok();
        assert!(!docker(&["context", "ls"]).ok().contains("mvm"), "{suite}");
        assert!(!docker(&["buildx", "ls"]).ok().contains("mvm"), "{suite}");
        mvm(&["context", "rm", "shared"]).refused(1, "neither Docker's client nor buildx was told of shared");
    }
}

/// BuildKit's `Control.Info`, as far as the test reads it (BuildKit control.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    version: Option<BuildkitVersion>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BuildkitVersion {
    #[prost(string, tag = "1")]
    package: String,
}

#[tokio::test]
async fn a_plain_grpc_client_is_answered_by_buildkit() {
    if skipped("sockets") {
        return;
    }
    let socket = tokio::task::spawn_blocking(|| shared().instance.buildkit_socket()).await.unwrap();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://buildkit");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/moby.buildkit.v1.Control/Info");
    let codec = tonic_prost::ProstCodec::<(), InfoResponse>::default();
    let answer = client.unary(tonic::Request::new(()), path, codec).await.unwrap().into_inner();
    let package = answer.version.map(|version| version.package).unwrap_or_default();
    assert!(package.contains("buildkit"), "\"{package}\"");
}

#[test]
fn a_hundred_connections_at_once() {
    if skipped("sockets") {
        return;
    }
    let socket = shared().instance.docker_socket();
    let mut streams: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert_eq!(&begin, b"HTTP/1.1 200 OK", "connection {number}");
    }
}

#[test]
fn what_goes_both_ways_at_once_arrives_as_it_was_sent() {
    if skipped("throughput") {
        return;
    }
    echoed(128 << 20);
}

#[test]
#[ignore = "takes minutes where the processor is emulated"]
fn a_gibibyte_both_ways_at_once_arrives_as_it_was_sent() {
    if skipped("throughput") {
        return;
    }
    echoed(1 << 30);
}

/// Host port, tunnel over vsock, a container that echoes until it has read the end: half-close has to arrive there, and
/// the rest of the echo here.
fn echoed(amount: u64) {
    let Shared { instance, base, .. } = shared();
    let port = free_port();
    let publish = format!("{port}:7");
    let mut echo = start(
        instance
            .command()
            .args(["run", "--rm", "-p", &publish, &base.image])
            .args(["nc", "-ll", "-p", "7", "-e", "cat"]),
    );
    eventually("the echo answers", 300, || {
        assert!(echo.is_running(), "the echo has ended");
        if echoes(port) { Ok(()) } else { Err(format!("not on port {port}")) }
    });
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    let sender = thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || {
            let mut random = std::fs::File::open("/dev/urandom").unwrap();
            let sum = copy_summed(&mut (&mut random).take(amount), &mut stream);
            stream.shutdown(Shutdown::Write).unwrap();
            sum
        }
    });
    let received = copy_summed(&mut (&stream), &mut std::io::sink());
    let sent = sender.join().unwrap();
    assert_eq!(sent.0, amount);
    assert_eq!(received.0, amount, "bytes that came back");
    assert_eq!(received.1, sent.1, "SHA-256 of what came back");
}

/// Whether one line comes back, and the end after it.
fn echoes(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut back = String::new();
    stream.write_all(b"hello\n").is_ok()
        && stream.shutdown(Shutdown::Write).is_ok()
        && stream.read_to_string(&mut back).is_ok()
        && back == "hello\n"
}

/// Copies to the end; how many bytes, and their SHA-256.
fn copy_summed(from: &mut impl Read, to: &mut impl Write) -> (u64, Vec<u8>) {
    let (mut buffer, mut sum, mut total) = (vec![0; 256 * 1024], Sha256::new(), 0);
    loop {
        let count = from.read(&mut buffer).unwrap_or_else(|error| panic!("after {total} bytes: {error}"));
        if count == 0 {
            return (total, sum.finalize().to_vec());
        }
        sum.update(&buffer[..count]);
        to.write_all(&buffer[..count]).unwrap_or_else(|error| panic!("after {total} bytes: {error}"));
        total += count as u64;
    }
}
