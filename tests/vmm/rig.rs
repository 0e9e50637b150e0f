//! The rig itself: what other tests rely on.

use std::path::PathBuf;
use std::time::Duration;

use ::rig::{Job, MachineError, Stream};

use crate::support::{Processes, Rig, skipped};

/// QEMU's processes of this test program, by the files that they have from it.
fn processes() -> Processes {
    Processes::of(&PathBuf::from(format!("/proc/{}/fd/", std::process::id())))
}

fn job<'a>(words: &'a [&'a str], seconds: u64) -> Job<'a> {
    Job { words, within: Duration::from_secs(seconds) }
}

#[test]
fn a_job_has_output_status_and_files() {
    if skipped("vmm") {
        return;
    }
    let mut rig = Rig::borrow();
    let script = "echo out; echo err >&2; printf 'a\\0b' > /out/file; touch /tmp/left; sleep 600 & exit 3";
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let report = rig.run(job(&["sh", "-c", script], 300), |stream, bytes| match stream {
        Stream::Stdout => out.extend_from_slice(bytes),
        Stream::Stderr => err.extend_from_slice(bytes),
    });
    let report = report.unwrap();
    assert_eq!((report.status, out.as_slice(), err.as_slice()), (3, &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(report.files, [("file".to_owned(), b"a\0b".to_vec())]);

    // The next one finds nothing of it.
    let script = "ls /tmp /out; ps | grep -c '[s]leep 600'; kill -KILL $$";
    let mut out = Vec::new();
    let report = rig.run(job(&["sh", "-c", script], 300), |_, bytes| out.extend_from_slice(bytes)).unwrap();
    assert_eq!(String::from_utf8_lossy(&out), "/out:\n\n/tmp:\n0\n");
    assert_eq!((report.status, report.files.len()), (137, 0));
    let report = rig.run(job(&["nowhere"], 300), |_, bytes| out.extend_from_slice(bytes)).unwrap();
    assert_eq!(report.status, 127);
    assert!(String::from_utf8_lossy(&out).contains("cannot start \"nowhere\": No such file"), "{out:?}");
    rig.give_back();
}

#[test]
fn a_job_that_does_not_end_is_told_and_no_qemu_is_left() {
    if skipped("vmm") {
        return;
    }
    let mut rig = Rig::borrow();
    processes().with_argument("qemu-system-");
    let error = rig.run(job(&["sleep", "600"], 1), |_, _| {}).unwrap_err();
    assert!(matches!(error, MachineError::Late { .. }), "{error}");
    assert!(error.to_string().starts_with("sleep 600: not within 1 s; its kernel said:"), "{error}");
    drop(rig);
    processes().expect_none();

    let mut rig = Rig::borrow();
    let error = rig.run(job(&["sh", "-c", "echo c > /proc/sysrq-trigger"], 300), |_, _| {}).unwrap_err();
    assert!(matches!(error, MachineError::Gone { .. }), "{error}");
    assert!(error.to_string().contains("Kernel panic - not syncing: sysrq triggered crash"), "{error}");
    drop(rig);
    processes().expect_none();
}
