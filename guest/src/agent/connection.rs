//! Accepted vsock connections, as the RPC server wants them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::ports::HOST_CID;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tokio_vsock::{VsockListener, VsockStream};
use tonic::transport::server::Connected;

/// After a failed accept (no descriptors left): long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(50);

/// The next connection of the host. Programs in the guest, containers among them, can dial these ports as well
/// (VMADDR_CID_LOCAL; vsock knows no network namespaces), and the RPC would make them root: they are turned away.
pub(super) async fn accept(listener: &VsockListener) -> VsockStream {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if peer.cid() == HOST_CID => return stream,
            Ok(_) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Every connection of a listener, without end.
pub(super) fn incoming(listener: VsockListener) -> impl Stream<Item = io::Result<Connection>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let stream = accept(&listener).await;
            if sender.send(Ok(Connection(stream))).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// A stream of which nothing more is to be known: there is one host.
#[derive(Debug)]
pub(super) struct Connection(VsockStream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
