//! vsock addresses. Guest ports lie below 1024, which in the guest only a process with CAP_NET_BIND_SERVICE binds.

/// The guest's context id. One machine has one guest, so it never varies.
pub const GUEST_CID: u32 = 3;
/// The host's context id (virtio 1.3, 5.10.4).
pub const HOST_CID: u32 = 2;

/// The agent's RPC.
pub const AGENT: u32 = 1;
/// Joined to `docker.sock`.
pub const DOCKER: u32 = 2;
/// Joined to BuildKit's control API: `docker.sock` after the upgrade of `POST /grpc`.
pub const BUILDKIT: u32 = 3;
/// Joined to a TCP port of the guest's loopback: the caller sends the port as two bytes, big endian, first.
pub const TUNNEL: u32 = 4;

/// Port `HOST_LOOPBACK + n` of the host is TCP port n of the host's 127.0.0.1, where the supervisor allows it.
/// Connections from the guest to any other port of the host are reset.
pub const HOST_LOOPBACK: u32 = 0x1_0000;
