//! The vsock device served over vhost-user, to a QEMU that executes the guest.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{ShutdownHandle, VhostUserBackend, VhostUserDaemon, VringMutex, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use crate::devices::Signals;
use crate::devices::vsock::Vsock;

/// Both of them: the event queue stays with QEMU (it serves migration alone).
const QUEUES: usize = 2;
/// Linux drivers use 128 buffers; QEMU offers as many.
const QUEUE_SIZE: usize = 1024;
/// The event that says that the device's own descriptor is readable; those up to `QUEUES` are the crate's.
const HOST_EVENT: u16 = 3;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    #[error("cannot make a socket pair for the vsock device below {0}")]
    Socket(PathBuf, #[source] io::Error),
    #[error("cannot serve the vsock device: {0}")]
    Daemon(vhost_user_backend::Error),
    #[error("cannot watch the vsock device's sockets")]
    Watch(#[source] io::Error),
    #[error("cannot start the vsock device's threads")]
    Thread(#[source] io::Error),
}

/// Why a device serves its guest no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the guest broke its vsock device")]
    Broken,
    #[error("the vsock device cannot reach its guest")]
    Guest,
    #[error("QEMU and the vsock device have lost each other")]
    Connection,
}

/// Served as long as this lives.
pub struct Served {
    shutdown: Option<ShutdownHandle>,
    waiting: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// Serves `device` from threads of its own, and tells of the end by `lost`, which comes with QEMU's own end, too. QEMU
/// gets the descriptor that is returned as its chardev.
pub fn serve(
    device: Vsock,
    lost: impl Fn(Lost) + Send + Sync + 'static,
) -> Result<(Served, OwnedFd), VhostUserError> {
    let descriptor = device.as_raw_fd();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let exit = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC)
        .map_err(VhostUserError::Thread)?;
    let lost: Arc<dyn Fn(Lost) + Send + Sync> = Arc::new(lost);
    let backend = Backend {
        device: Arc::new(Mutex::new(device)),
        memory: memory.clone(),
        exit: Arc::new(Mutex::new(Some(exit))),
        lost: Arc::clone(&lost),
    };
    let mut daemon =
        VhostUserDaemon::new("vsock".to_owned(), backend, memory).map_err(VhostUserError::Daemon)?;
    for worker in daemon.get_epoll_handlers() {
        worker
            .register_listener(descriptor, EventSet::IN, u64::from(HOST_EVENT))
            .map_err(VhostUserError::Watch)?;
    }
    let (listener, peer) = private_pair(&std::env::temp_dir())?;
    daemon.start(&mut Listener::from(listener)).map_err(VhostUserError::Daemon)?;
    let shutdown = daemon.shutdown_handle();
    let wait = move || {
        if let Err(error) = daemon.wait() {
            // QEMU's end is the usual reason, in one of several shapes.
            tracing::debug!(%error, "vhost-user connection ended");
        }
        lost(Lost::Connection);
    };
    let waiting = crate::thread::named("vsock-wait").spawn(wait).map_err(VhostUserError::Thread)?;
    Ok((Served { shutdown, waiting: Some(waiting) }, peer))
}

/// The crate only accepts; so this is a listener with one connection already waiting, whose address nobody else could
/// reach and which is gone before the function returns.
fn private_pair(below: &Path) -> Result<(UnixListener, OwnedFd), VhostUserError> {
    let failed = |source| VhostUserError::Socket(below.to_owned(), source);
    let directory =
        below.join(format!("mvm-vsock-{}-{:x}", std::process::id(), fresh_number().map_err(failed)?));
    DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
    let pair = pair_in(&directory);
    let _ = std::fs::remove_file(directory.join(SOCKET));
    let _ = std::fs::remove_dir(&directory);
    pair.map_err(failed)
}

const SOCKET: &str = "s";

/// Through the directory's descriptor: its own path may be longer than an address holds.
fn pair_in(directory: &Path) -> io::Result<(UnixListener, OwnedFd)> {
    let open = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(SOCKET);
    let listener = UnixListener::bind(&path)?;
    Ok((listener, UnixStream::connect(&path)?.into()))
}

fn fresh_number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(shutdown) = &self.shutdown {
            shutdown.shutdown();
        }
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
    }
}

#[derive(Clone)]
struct Backend {
    device: Arc<Mutex<Vsock>>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    /// Ends the one thread that there is; the crate takes it.
    exit: Arc<Mutex<Option<(EventConsumer, EventNotifier)>>>,
    lost: Arc<dyn Fn(Lost) + Send + Sync>,
}

impl Backend {
    fn device(&self) -> MutexGuard<'_, Vsock> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        Vsock::features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ
    }

    fn reset_device(&self) {
        self.device().reset();
    }

    /// The crate has told the queues, which is all that there is to it.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.device().config();
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let take = usize::try_from(size).unwrap_or(usize::MAX);
        config.into_iter().skip(skip).take(take).collect()
    }

    /// The crate puts new memory into the `GuestMemoryAtomic` that the backend shares.
    fn update_memory(&self, _memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        Ok(())
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// QEMU takes both rings back: the driver has reset the device, or QEMU has stopped the machine, from which there is
    /// no way back here.
    fn stop_vring(&self, _queue_index: u32) -> io::Result<()> {
        self.device().reset();
        Ok(())
    }

    fn handle_event(
        &self,
        _event: u16,
        _readiness: EventSet,
        vrings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        let mut device = self.device();
        let [to_guest, from_guest] = vrings else { return Ok(()) };
        let mut to_guest = to_guest.get_mut();
        let mut from_guest = from_guest.get_mut();
        let ready = [&to_guest, &from_guest].iter().all(|ring| ring.is_enabled() && ring.get_queue().ready());
        let now = Instant::now();
        if !ready {
            device.process_host(now);
            return Ok(());
        }
        device.activate(now);
        let memory = self.memory.memory();
        let processed = device.process(&*memory, to_guest.get_queue_mut(), from_guest.get_queue_mut(), now);
        let signals = processed.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the vsock device stops");
            (self.lost)(Lost::Broken);
            Signals::default()
        });
        let (tells_to, tells_from) = (signals.has(Vsock::TO_GUEST), signals.has(Vsock::FROM_GUEST));
        let told = [(tells_to, &to_guest), (tells_from, &from_guest)]
            .into_iter()
            .filter(|(is_due, _)| *is_due)
            .try_for_each(|(_, ring)| ring.signal_used_queue());
        if let Err(error) = told {
            tracing::error!(%error, "cannot interrupt the guest");
            (self.lost)(Lost::Guest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::private_pair;

    #[test]
    fn a_temporary_directory_with_a_long_name_will_do_and_stays_empty() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let (listener, peer) = private_pair(&long).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        std::os::unix::net::UnixStream::from(peer).write_all(b"x").unwrap();
        ours.read_exact(&mut [0]).unwrap();
        assert_eq!(std::fs::read_dir(&long).unwrap().count(), 0);
    }
}
