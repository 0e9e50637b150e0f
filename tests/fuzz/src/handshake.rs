//! What is said before bytes flow: the answer to the guest's `POST /grpc`, the words that the guest gets on its kernel's
//! command line, QEMU's version and what it says over QMP.
//!
//! Input: the first byte says which; the second how the rest is cut into reads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncReadExt, ReadBuf};

use crate::input::Input;

// Of the guest's program, which is no library.
#[allow(dead_code, unreachable_pub, clippy::pedantic)]
#[path = "../../../guest/src/http.rs"]
mod http;
#[allow(dead_code, unreachable_pub, clippy::pedantic)]
#[path = "../../../guest/src/kernel_args.rs"]
mod kernel_args;

/// No head may be longer; what came in the same read counts.
const LONGEST_HEAD: usize = 16 * 1024;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (kind, step) = (input.below(4), usize::from(input.byte()) + 1);
    let said = input.rest();
    match kind {
        0 => upgrade(said, step),
        1 => command_line(said),
        2 => version(said),
        _ => monitor(said, step),
    }
}

/// However the answer comes, its status and what is behind its head are the same.
fn upgrade(said: &[u8], step: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let in_steps = |step| {
        let mut stream = InSteps { rest: said, step };
        runtime.block_on(async {
            let head = http::read_head(&mut stream).await?;
            let mut following = head.following;
            stream.read_to_end(&mut following).await?;
            Ok::<_, http::Error>((head.status, following))
        })
    };
    let whole = said.windows(4).position(|four| four == b"\r\n\r\n");
    match (in_steps(usize::MAX), in_steps(step)) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            assert_eq!(one.1, said[whole.unwrap() + 4..], "bytes behind the head are lost");
            assert!(said.starts_with(b"HTTP/1.1 "));
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => assert!(said.len() > LONGEST_HEAD, "{one:?} or {other:?}"),
    }
}

/// Gives so many bytes with each read.
struct InSteps<'a> {
    rest: &'a [u8],
    step: usize,
}

impl tokio::io::AsyncRead for InSteps<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let count = self.step.min(self.rest.len()).min(buffer.remaining());
        let (now, rest) = self.rest.split_at(count);
        buffer.put_slice(now);
        self.rest = rest;
        std::task::Poll::Ready(Ok(()))
    }
}

fn command_line(said: &[u8]) {
    let Ok(text) = std::str::from_utf8(said) else { return };
    let args = kernel_args::KernelArgs::parse(text);
    if let Some(Ok(net)) = &args.network {
        assert!((1..=31).contains(&net.prefix));
        let word = format!("{}/{},{},{}", net.address, net.prefix, net.gateway, net.dns);
        let again = kernel_args::KernelArgs::parse(&format!("{text} mvm.net={word}"));
        assert_eq!(again.network, args.network, "the last of them counts");
    }
}

fn version(said: &[u8]) {
    let text = String::from_utf8_lossy(said);
    if let Some(version) = vmm::fuzzing::qemu_version(&text) {
        let again = vmm::fuzzing::qemu_version(&format!("QEMU emulator version {version} (Debian)"));
        assert_eq!(again, Some(version));
    }
}

/// Every greeting is answered once, and nothing else is said.
fn monitor(said: &[u8], step: usize) {
    // Beyond that the socket would have to be read and written at the same time.
    let said = &said[..said.len().min(4096)];
    let (mut qemu, ours) = UnixStream::pair().unwrap();
    for part in said.chunks(step.max(64)) {
        qemu.write_all(part).unwrap();
    }
    qemu.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = 0;
    let followed = vmm::fuzzing::follow_qemu(ours, |_| heard += 1);
    let lines = said.split(|byte| *byte == b'\n').count();
    assert!(heard <= lines);
    // Text that is no UTF-8 ends the talk.
    assert!(followed.is_ok() || std::str::from_utf8(said).is_err());
    let mut answers = String::new();
    qemu.read_to_string(&mut answers).unwrap();
    assert!(answers.lines().all(|line| line == r#"{"execute":"qmp_capabilities"}"#));
    assert!(answers.lines().count() <= lines);
}
