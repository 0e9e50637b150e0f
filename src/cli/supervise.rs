//! `mvm supervise`: what `mvm up` starts, and nobody types.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_subscriber::EnvFilter;

use super::Context;
use crate::supervisor;

/// What one process may log: the guest has a part in what is worth a line, and must not fill the host's disk by it.
const MOST: usize = 8 * 1024 * 1024;

pub async fn run(context: &Context) {
    log_to_stderr();
    supervisor::main(&context.home, &context.name).await;
}

/// `MVM_LOG` says how much: `info` where it is not set.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MVM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let writer = || Bounded { to: io::stderr(), written: &WRITTEN, most: MOST };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).init();
}

/// Writes until so much was written by all of its kind.
struct Bounded<'a, W> {
    to: W,
    written: &'a AtomicUsize,
    most: usize,
}

impl<W: Write> Write for Bounded<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.written.fetch_add(bytes.len(), Ordering::Relaxed);
        let after = before.saturating_add(bytes.len());
        if after <= self.most {
            self.to.write_all(bytes)?;
        } else if before <= self.most {
            self.to.write_all(b"the log is full; this process writes no more\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::AtomicUsize;

    use super::Bounded;

    #[test]
    fn a_log_has_an_end_and_says_so_once() {
        let (mut text, written) = (Vec::new(), AtomicUsize::new(0));
        for _ in 0..10 {
            Bounded { to: &mut text, written: &written, most: 12 }.write_all(b"line\n").unwrap();
        }
        let wanted = "line\nline\nthe log is full; this process writes no more\n";
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }
}
