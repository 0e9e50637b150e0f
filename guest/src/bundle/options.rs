//! Mount options as words (mount(8)), sorted into flags and what the file system itself reads.

use rustix::mount::{MountFlags, MountPropagationFlags};

/// What a list of options means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: Flags,
    pub(super) propagation: Option<MountPropagationFlags>,
    pub(super) bind: bool,
    pub(super) recursive: bool,
    pub(super) remount: bool,
    /// The rest, separated by commas.
    pub(super) data: String,
    pub(super) upperdir: Option<String>,
    pub(super) workdir: Option<String>,
}

/// `MountFlags` with a default and without surprises in comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(pub(super) MountFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MountFlags::empty())
    }
}

impl Options {
    pub(super) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        let mut data = Vec::new();
        for word in words.into_iter().flat_map(|word| word.split(',')) {
            if !options.known(word) {
                match word.split_once('=') {
                    Some(("upperdir", path)) => options.upperdir = Some(path.to_owned()),
                    Some(("workdir", path)) => options.workdir = Some(path.to_owned()),
                    _ => {}
                }
                data.push(word);
            }
        }
        options.data = data.join(",");
        options
    }

    /// Takes in a word that is not the file system's own.
    fn known(&mut self, word: &str) -> bool {
        if let Some((flag, set)) = flag(word) {
            self.flags.0.set(flag, set);
            return true;
        }
        if let Some(propagation) = propagation(word) {
            self.propagation = Some(propagation);
            return true;
        }
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "" | "defaults" => {}
            _ => return false,
        }
        true
    }
}

fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let deep = MountPropagationFlags::REC;
    Some(match word {
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | deep,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | deep,
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | deep,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | deep,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_keeps_its_own_words_and_tells_which_directories_it_needs() {
        let options = Options::parse(["lowerdir=/a", "upperdir=/t/upper", "workdir=/t/work", "nodev"]);
        assert_eq!(options.data, "lowerdir=/a,upperdir=/t/upper,workdir=/t/work");
        assert_eq!(
            (options.upperdir.as_deref(), options.workdir.as_deref()),
            (Some("/t/upper"), Some("/t/work"))
        );
        assert_eq!(options.flags.0, MountFlags::NODEV);
    }

    #[test]
    fn what_linuxkit_mounts_a_second_time_is_not_a_new_mount() {
        let options = Options::parse(["remount", "private"]);
        assert!(options.remount && options.data.is_empty());
        assert_eq!(options.propagation, Some(MountPropagationFlags::PRIVATE));
    }

    #[test]
    fn a_later_word_takes_back_an_earlier() {
        let options = Options::parse(["ro", "rbind,rshared", "rw"]);
        assert_eq!(options.flags.0, MountFlags::empty());
        assert!(options.bind && options.recursive && options.data.is_empty());
        assert_eq!(options.propagation, Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC));
    }
}
