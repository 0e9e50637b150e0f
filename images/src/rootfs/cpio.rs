//! A tree as a cpio archive of the kind `newc`, which is what Linux unpacks into memory when it starts (Documentation/
//! driver-api/early-userspace/buffer-format.rst). It holds no extended attributes.

use std::collections::HashMap;
use std::io::{self, Write};

use super::tarball::TIME;
use super::{Content, DeviceKind, Digest, Entry, Node, Tree};

const MAGIC: &str = "070701";
/// The name of what stands behind the last entry.
const END: &str = "TRAILER!!!";
/// Headers and contents begin at multiples of this.
const ALIGNMENT: u64 = 4;
/// Linux takes no longer name, with the zero behind it.
const LONGEST_NAME: usize = 4096;

/// The kinds of files, as they stand above the mode (POSIX, `S_IFMT`).
const FIFO: u32 = 0o010_000;
const CHARACTER: u32 = 0o020_000;
const DIRECTORY: u32 = 0o040_000;
const BLOCK: u32 = 0o060_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes a tree. Files that are the same are one file with several names, as in the other images.
pub(crate) fn write(tree: &Tree, to: impl Write) -> io::Result<()> {
    let mut archive = Archive { to, inode: 0, names: HashMap::new() };
    for shared in tree.entries().filter_map(|(_, entry)| shared(entry)) {
        let names = archive.names.entry(shared).or_default();
        names.count = names.count.saturating_add(1);
    }
    for (path, entry) in tree.entries() {
        archive.add(path, entry)?;
    }
    archive.header(END, &Fields { links: 1, ..Fields::default() })?;
    archive.to.flush()
}

/// Fills up to where the next header may stand, behind so many bytes.
pub(crate) fn pad(to: &mut impl Write, size: u64) -> io::Result<()> {
    let missing = size.next_multiple_of(ALIGNMENT).saturating_sub(size);
    to.write_all(vec![0; usize::try_from(missing).unwrap_or(0)].as_slice())
}

/// What files have in common that are one: content, mode and owners.
type Shared = (Digest, u32, u32, u32);

fn shared(entry: &Entry) -> Option<Shared> {
    match &entry.node {
        Node::File(content) if content.size() > 0 => {
            Some((content.digest(), entry.mode, entry.uid, entry.gid))
        }
        _ => None,
    }
}

/// The names of one file.
#[derive(Debug, Default)]
struct Names {
    count: u32,
    /// The file's number, once it is in the archive.
    inode: Option<u32>,
}

/// The numbers of a header.
#[derive(Debug, Default)]
struct Fields {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    time: u32,
    size: u32,
    device: (u32, u32),
}

struct Archive<W> {
    to: W,
    /// The last that was given.
    inode: u32,
    names: HashMap<Shared, Names>,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, path: &str, entry: &Entry) -> io::Result<()> {
        self.inode = self.inode.checked_add(1).ok_or_else(|| refused(path, "too many files"))?;
        let mut fields = Fields {
            inode: self.inode,
            uid: entry.uid,
            gid: entry.gid,
            links: 1,
            time: u32::try_from(TIME).unwrap_or_default(),
            ..Fields::default()
        };
        let target;
        let (kind, mut content) = match &entry.node {
            Node::Directory => (DIRECTORY, None),
            Node::File(content) => (FILE, Some(content)),
            Node::Symlink(to) => {
                target = Content::from(to.as_bytes());
                (SYMLINK, Some(&target))
            }
            Node::Device { kind, major, minor } => {
                fields.device = (*major, *minor);
                (if *kind == DeviceKind::Block { BLOCK } else { CHARACTER }, None)
            }
            Node::Fifo => (FIFO, None),
        };
        fields.mode = kind | entry.mode;
        if let Some(names) = shared(entry).and_then(|shared| self.names.get_mut(&shared)) {
            fields.links = names.count;
            match names.inode {
                None => names.inode = Some(self.inode),
                // Its content came with its first name.
                Some(inode) => (fields.inode, content) = (inode, None),
            }
        }
        let size = content.map_or(0, Content::size);
        fields.size = u32::try_from(size).map_err(|_| refused(path, "a file of 4 GiB or more"))?;
        self.header(path, &fields)?;
        if let Some(content) = content {
            io::copy(&mut content.reader(), &mut self.to)?;
            pad(&mut self.to, size)?;
        }
        Ok(())
    }

    fn header(&mut self, name: &str, fields: &Fields) -> io::Result<()> {
        let length = name.len().saturating_add(1);
        if length > LONGEST_NAME {
            return Err(refused(name, "a longer path than Linux takes"));
        }
        let Fields { inode, mode, uid, gid, links, time, size, device: (major, minor) } = fields;
        let mut header = MAGIC.to_owned();
        // The device that it lies on has no number, and there is no checksum.
        for number in [inode, mode, uid, gid, links, time, size, &0, &0, major, minor] {
            header.push_str(&format!("{number:08X}"));
        }
        header.push_str(&format!("{length:08X}{:08X}{name}\0", 0));
        self.to.write_all(header.as_bytes())?;
        pad(&mut self.to, header.len() as u64)
    }
}

fn refused(path: &str, what: &str) -> io::Error {
    io::Error::other(format!("{path}: {what}, which an initial ramdisk cannot hold"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.put("etc/name", Entry { uid: 7, gid: 8, ..Entry::file(0o640, *b"mvm") });
        tree.put("etc/other", Entry { uid: 7, gid: 8, ..Entry::file(0o640, *b"mvm") });
        tree.put("bin", Entry::symlink("usr/bin"));
        tree.put(
            "dev/console",
            Entry::new(0o600, Node::Device { kind: DeviceKind::Character, major: 5, minor: 1 }),
        );
        tree.put("run/pipe", Entry::new(0o644, Node::Fifo));
        tree
    }

    fn written(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tree, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn others_read_what_is_written() {
        let mut cpio = Command::new("cpio");
        cpio.args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"]).env("TZ", "UTC");
        let Ok(mut child) = cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            eprintln!("there is no cpio here");
            return;
        };
        child.stdin.take().unwrap().write_all(&written(&tree())).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listed = String::from_utf8(output.stdout).unwrap();
        let words = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let expected = [
            "lrwxrwxrwx 1 0 0 7 Jan 1 2024 bin -> usr/bin",
            "drwxr-xr-x 1 0 0 0 Jan 1 2024 dev",
            "crw------- 1 0 0 5, 1 Jan 1 2024 dev/console",
            "drwxr-xr-x 1 0 0 0 Jan 1 2024 etc",
            "-rw-r----- 2 7 8 3 Jan 1 2024 etc/name",
            "-rw-r----- 2 7 8 0 Jan 1 2024 etc/other",
            "drwxr-xr-x 1 0 0 0 Jan 1 2024 run",
            "prw-r--r-- 1 0 0 0 Jan 1 2024 run/pipe",
        ];
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn everything_begins_at_a_word() {
        let bytes = written(&tree());
        assert!(bytes.len().is_multiple_of(4));
        let starts = bytes.windows(6).enumerate().filter(|(_, window)| *window == MAGIC.as_bytes());
        let starts: Vec<_> = starts.map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 9);
        assert!(starts.iter().all(|at| at.is_multiple_of(4)), "{starts:?}");
    }

    #[test]
    fn a_file_with_several_names_has_its_content_once() {
        let bytes = String::from_utf8(written(&tree())).unwrap();
        assert_eq!(bytes.matches("mvm").count(), 1);
        // Of a number of names that is more than one Linux remembers the inode.
        let header = |name: &str| bytes.split(MAGIC).find(|entry| entry.contains(name)).unwrap().to_owned();
        let inode = |name: &str| header(name)[..8].to_owned();
        assert_eq!(inode("etc/name"), inode("etc/other"));
        assert_eq!(&header("etc/name")[32..40], "00000002");
    }

    #[test]
    fn what_linux_would_not_take_is_refused_by_its_name() {
        let mut tree = Tree::default();
        let long = "x".repeat(LONGEST_NAME);
        tree.put(&long, Entry::file(0o644, *b""));
        let error = write(&tree, io::sink()).unwrap_err().to_string();
        let expected =
            format!("{long}: a longer path than Linux takes, which an initial ramdisk cannot hold");
        assert_eq!(error, expected);
    }
}
