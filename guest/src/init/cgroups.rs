//! The cgroup2 tree: init in a group of its own, every controller handed down to the groups of the containers.

use std::path::{Path, PathBuf};

use super::Error;

const ROOT: &str = "/sys/fs/cgroup";
/// Where init itself lives: a group with processes cannot hand controllers to children (the kernel's "no internal
/// processes" rule holds from the first level on, and container runtimes derive their paths from it).
const OWN: &str = "init";

/// Moves init into its own group and enables every controller for the others.
pub(super) fn delegate() -> Result<(), Error> {
    let root = Path::new(ROOT);
    let own = root.join(OWN);
    std::fs::create_dir_all(&own).map_err(|source| Error::Make { path: own.clone(), source })?;
    write(own.join("cgroup.procs"), "0".to_owned())?;
    let path = root.join("cgroup.controllers");
    let controllers = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    write(root.join("cgroup.subtree_control"), enable_all(&controllers))
}

/// `"cpu memory"` as the words that enable them: `"+cpu +memory"`.
fn enable_all(controllers: &str) -> String {
    controllers.split_ascii_whitespace().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ")
}

/// Kills every process outside init's own group, however deep, without a chance for any to fork away.
pub(crate) fn kill_all_but_init() {
    let Ok(groups) = std::fs::read_dir(ROOT) else { return };
    for group in groups.flatten().filter(|group| group.file_name() != OWN) {
        // Plain files of the root group have no cgroup.kill below them; a group that is gone needs no killing.
        drop(std::fs::write(group.path().join("cgroup.kill"), "1"));
    }
}

fn write(path: PathBuf, what: String) -> Result<(), Error> {
    match std::fs::write(&path, &what) {
        Ok(()) => Ok(()),
        Err(source) => Err(Error::Write { what, path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::enable_all;

    #[test]
    fn controllers_become_words_that_enable_them() {
        assert_eq!(enable_all("cpuset cpu io\n"), "+cpuset +cpu +io");
        assert_eq!(enable_all("\n"), "");
    }
}
