//! The sender's side of a build context: which files the daemon may see, and their transfer (fsutil's protocol).
//!
//! `glob`, `patterns`, `follow` and `filter` decide, `walk` and `stat` look, `packet` and `send` speak.

mod filter;
mod follow;
mod glob;
mod lexical;
mod packet;
mod paths;
mod patterns;
mod send;
mod stat;
mod walk;

pub(crate) use filter::Selection;
pub(crate) use packet::{Kind, Packet, Stat};
pub(crate) use send::send;
pub(crate) use stat::{go_mode, has_contents};

#[cfg(test)]
mod privileges {
    use std::path::Path;

    /// Does this in a thread that may not read everything, also where the tests run as root. `directory` is one of ours
    /// that the thread has to enter.
    pub(super) fn without_root(directory: &Path, work: impl FnOnce() + Send) {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory, mode).unwrap();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                drop_root();
                work();
            });
            worker.join().unwrap();
        });
    }

    /// Linux keeps user ids for each thread; libc's functions change them for all, these system calls do not.
    #[cfg(target_os = "linux")]
    fn drop_root() {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn drop_root() {
        assert!(!rustix::process::geteuid().is_root(), "run this test as another user");
    }
}
