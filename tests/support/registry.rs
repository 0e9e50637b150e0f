//! Debian's docker-registry on a free port of the loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{free_port, tool};

/// `user` with the password `secret`, by bcrypt.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Serves until the pipe from the test ends, even where the test program is killed or keeps the registry in a static.
const SERVE: &str = r#"exec 3<&0
"$1" serve "$2" < /dev/null > "$3/log" 2>&1 &
read -r end <&3
kill $!
rm -rf "$3""#;

/// Ends with the value, or with the test program.
#[derive(Debug)]
pub struct Registry {
    pub port: u16,
    shell: Child,
    data: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Registry {
    /// Open to everybody.
    pub fn open() -> Self {
        Self::start("")
    }

    /// Wants the user `user` with the password `secret`.
    pub fn with_login() -> Self {
        Self::start("auth: { htpasswd: { realm: test, path: DATA/htpasswd } }\n")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// Where it keeps a content.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.data.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// With this in its configuration, in which DATA is its directory.
    pub(super) fn start(auth: &str) -> Self {
        let data =
            tempfile::Builder::new().prefix("mvm-registry").tempdir().expect("a directory for the registry");
        let port = free_port();
        let directory = data.path().display().to_string();
        let configuration = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {directory} }} }}\n\
             http: {{ addr: \"127.0.0.1:{port}\" }}\n{}",
            auth.replace("DATA", &directory)
        );
        let file = data.path().join("registry.yml");
        std::fs::write(data.path().join("htpasswd"), HTPASSWD).expect("the registry's users are written");
        std::fs::write(&file, configuration).expect("the registry's configuration is written");
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", SERVE, "registry-of-a-test"]).arg(tool("docker-registry")).arg(&file);
        let shell = command.arg(data.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let shell = shell.expect("setsid (of util-linux) starts a shell");
        let registry = Self { port, shell, data };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !answers(port) {
            assert!(
                Instant::now() < deadline,
                "the registry does not answer on port {port}: {}",
                registry.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
    }
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut answer = String::new();
    stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.0 ")
}
