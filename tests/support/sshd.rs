//! A real ssh server on loopback, and a client that is told of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Keys, MVM, Running, eventually, free_port, start};

/// Debian's place; as root it also wants a directory for itself.
const SSHD: &str = "/usr/sbin/sshd";
const PRIVILEGES: &str = "/run/sshd";

/// Serves this user's logins with a key, as long as it lives. Its sessions find mvm, with the directories of an instance.
#[derive(Debug)]
pub struct Sshd {
    pub port: u16,
    directory: TempDir,
    keys: Keys,
    server: Running,
}

impl Sshd {
    /// `home` is the instance's own.
    pub fn serving(home: &[(&str, PathBuf)]) -> Self {
        let (directory, keys, port) =
            (tempfile::tempdir().expect("a directory for sshd"), Keys::make(), free_port());
        let path = |name: &str| directory.path().join(name);
        fs::copy(keys.key(), path("host")).expect("the host's key is copied");
        fs::set_permissions(path("host"), fs::Permissions::from_mode(0o600)).expect("and kept to itself");
        fs::copy(keys.key().with_extension("pub"), path("allowed")).expect("the user's key is allowed");
        if !Path::new(PRIVILEGES).exists() {
            // Its parent is there on every Linux; only root can, and only root has to.
            let _ = fs::create_dir(PRIVILEGES);
        }
        let programs = Path::new(MVM).parent().expect("mvm is in a directory");
        let set: Vec<_> =
            home.iter().map(|(variable, path)| format!("{variable}={}", path.display())).collect();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH={}:/usr/bin:/bin {}\n",
            path("host").display(),
            path("allowed").display(),
            programs.display(),
            set.join(" "),
        );
        fs::write(path("sshd_config"), configuration).expect("sshd's configuration is written");
        let client = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F none -i {} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no \\\n    \
             -o LogLevel=ERROR \"$@\"\n",
            keys.key().display()
        );
        fs::create_dir(path("bin")).expect("a directory for the client");
        fs::write(path("bin/ssh"), client).expect("the client is written");
        fs::set_permissions(path("bin/ssh"), fs::Permissions::from_mode(0o755)).expect("and made executable");
        let server = start(Command::new(SSHD).arg("-D").arg("-e").arg("-f").arg(path("sshd_config")));
        let mut sshd = Self { port, directory, keys, server };
        eventually("sshd listens", 300, || {
            assert!(sshd.server.is_running(), "sshd has ended");
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        sshd
    }

    /// An agent that has the user's key.
    pub fn agent(&self) -> PathBuf {
        self.keys.socket()
    }

    /// Makes a command find the client that knows this server's key.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").expect("there is a PATH");
        command.env("PATH", format!("{}:{path}", self.directory.path().join("bin").display()))
    }
}
