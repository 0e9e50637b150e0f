//! What QEMU says of itself over QMP: that it runs, and why the guest ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// A line of QMP is far shorter; QEMU is trusted, but a machine's memory is not to depend on it.
const LONGEST_LINE: u64 = 1 << 20;

/// What is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The processor runs.
    Running,
    /// The guest ended, for QEMU's reason: `guest-shutdown`, `guest-reset`, `guest-panic`.
    Shutdown(String),
    /// It stopped the processor, because the host could not carry out a read or write of this disk; why, in its words.
    DiskStopped { disk: String, why: String },
}

/// Reads until QEMU closes, and passes on what is worth it. Blocks; runs in a thread of its own.
pub(crate) fn follow(socket: UnixStream, mut tell: impl FnMut(Said)) -> io::Result<()> {
    let mut writing = socket.try_clone()?;
    let mut reading = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if reading.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        match understand(&line) {
            Heard::Greeting => writing.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?,
            Heard::Ready => tell(Said::Running),
            Heard::Shutdown(reason) => tell(Said::Shutdown(reason)),
            Heard::DiskStopped { disk, why } => tell(Said::DiskStopped { disk, why }),
            Heard::Other => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Greeting,
    /// The answer to our only command. QEMU reads commands once its main loop runs, and starts without `-S`.
    Ready,
    Shutdown(String),
    DiskStopped {
        disk: String,
        why: String,
    },
    Other,
}

fn understand(line: &str) -> Heard {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return Heard::Other };
    if value.get("QMP").is_some() {
        return Heard::Greeting;
    }
    if value.get("return").is_some() {
        return Heard::Ready;
    }
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    match text("/event") {
        Some("SHUTDOWN") => Heard::Shutdown(text("/data/reason").unwrap_or("unknown").to_owned()),
        // QEMU stops where the host has no room left, and hands other errors to the guest (qapi/block-core.json).
        Some("BLOCK_IO_ERROR") if text("/data/action") == Some("stop") => Heard::DiskStopped {
            disk: text("/data/device").unwrap_or("unknown").to_owned(),
            why: text("/data/reason").unwrap_or("no reason is known").to_owned(),
        },
        _ => Heard::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qmp_lines_are_told_apart() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}}}"#;
        assert_eq!(understand(greeting), Heard::Greeting);
        assert_eq!(understand(r#"{"return": {}}"#), Heard::Ready);
        let end = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        assert_eq!(understand(end), Heard::Shutdown("guest-reset".to_owned()));
        assert_eq!(understand(r#"{"event": "RESUME"}"#), Heard::Other);
        assert_eq!(understand("not json"), Heard::Other);
    }

    #[test]
    fn disk_that_stops_the_processor_is_told_from_one_that_does_not() {
        let error = |action: &str| {
            format!(
                r##"{{"event": "BLOCK_IO_ERROR", "data": {{"device": "data", "node-name": "#block1", "operation": "write", "action": "{action}", "nospace": true, "reason": "No space left on device"}}}}"##
            )
        };
        let stopped = Heard::DiskStopped { disk: "data".into(), why: "No space left on device".into() };
        assert_eq!(understand(&error("stop")), stopped);
        assert_eq!(understand(&error("report")), Heard::Other);
    }
}
