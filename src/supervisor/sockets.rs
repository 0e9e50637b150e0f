//! The instance's sockets: bound here, accepted on by the machine process, gone when the builder is.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use protocol::ports;
use vmm::control::{ChannelError, MachineSender, ToMachine};

use crate::instance::Paths;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot bind {}: {source}", path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("cannot hand a socket to the machine process: {0}")]
    Pass(#[from] ChannelError),
}

/// The sockets of a ready machine; dropping it removes them.
#[derive(Debug)]
pub(super) struct Sockets {
    paths: Vec<PathBuf>,
}

impl Sockets {
    /// Binds all, then passes each listener on.
    pub(super) async fn open(paths: &Paths, machine: &MachineSender) -> Result<Self, Error> {
        let wanted = [
            (paths.docker_socket(), ports::DOCKER),
            (paths.buildkit_socket(), ports::BUILDKIT),
            (paths.agent_socket(), ports::AGENT),
        ];
        let mut sockets = Self { paths: Vec::new() };
        for (path, guest_port) in wanted {
            let listener = bind(&path)?;
            sockets.paths.push(path);
            machine.send(&ToMachine::Listen { guest_port }, Some(OwnedFd::from(listener))).await?;
        }
        Ok(sockets)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.paths {
            remove(path);
        }
    }
}

/// Removes what an instance that ended badly left behind. The caller holds the lock.
pub(super) fn clear(paths: &Paths) {
    for path in
        [paths.docker_socket(), paths.buildkit_socket(), paths.agent_socket(), paths.supervisor_socket()]
    {
        remove(&path);
    }
}

/// A listener that only the user may connect to. The directory is the user's alone already.
pub(super) fn bind(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Bind { path: path.into(), source };
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a socket");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use vmm::control::{Channel, SupervisorEnd, ToMachine};

    use super::Sockets;
    use crate::instance::tests::scratch;

    #[tokio::test]
    async fn exist_with_mode_0600_until_dropped_and_each_is_handed_over() {
        let (_directory, paths) = scratch();
        let (ours, machines) = std::os::unix::net::UnixStream::pair().unwrap();
        let supervisor = SupervisorEnd::new(ours).unwrap();
        let (_channel, mut reader) = Channel::new(machines).unwrap();
        let sockets = Sockets::open(&paths, &supervisor.sender).await.unwrap();
        let mode = paths.docker_socket().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let passed = tokio::task::spawn_blocking(move || {
            [(); 3].map(|()| {
                let (message, descriptor) = reader.receive::<ToMachine>().unwrap().unwrap();
                assert!(descriptor.is_some());
                message
            })
        });
        let listen = |guest_port| ToMachine::Listen { guest_port };
        assert_eq!(passed.await.unwrap(), [listen(2), listen(3), listen(1)]);
        drop(sockets);
        assert!(!paths.docker_socket().exists() && !paths.agent_socket().exists());
    }
}
