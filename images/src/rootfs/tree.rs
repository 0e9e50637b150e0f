//! A file tree in memory, in the order of its paths, so that the same parts always make the same image.

use std::collections::BTreeMap;

use super::Content;

/// As many links as Linux follows on the way to one file.
const MOST_LINKS: u32 = 40;

/// What is at a path. Everything belongs to root unless the definition says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) node: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Content),
    Symlink(String),
}

/// Paths are relative to the root, without a leading slash; the root itself has no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

impl Entry {
    pub(crate) fn directory(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, node: Node::Directory }
    }

    pub(crate) fn file(mode: u32, content: impl Into<Content>) -> Self {
        Self { mode, uid: 0, gid: 0, node: Node::File(content.into()) }
    }

    pub(crate) fn symlink(target: impl Into<String>) -> Self {
        Self { mode: 0o777, uid: 0, gid: 0, node: Node::Symlink(target.into()) }
    }
}

impl Tree {
    /// Puts an entry at a path, over what was there, and makes the directories above it.
    pub(crate) fn put(&mut self, path: &str, entry: Entry) {
        self.put_parents(path);
        // A directory that is there already keeps what is in it, and takes the newer mode.
        self.0.insert(path.to_owned(), entry);
    }

    /// Makes a directory unless something is there.
    pub(crate) fn ensure_directory(&mut self, path: &str) {
        if !path.is_empty() && !self.0.contains_key(path) {
            self.put(path, Entry::directory(0o755));
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// What is at a path through all links, as the kernel would find it.
    pub(crate) fn resolve(&self, path: &str) -> Option<&Entry> {
        let mut ahead: Vec<_> = path.split('/').rev().collect();
        let mut place = Vec::new();
        let mut links = 0..MOST_LINKS;
        while let Some(part) = ahead.pop() {
            match part {
                "" | "." => continue,
                ".." => {
                    place.pop();
                    continue;
                }
                name => place.push(name),
            }
            if let Node::Symlink(target) = &self.get(&place.join("/"))?.node {
                links.next()?;
                if target.starts_with('/') {
                    place.clear();
                }
                place.pop();
                ahead.extend(target.split('/').rev());
            }
        }
        self.get(&place.join("/"))
    }

    /// Everything, parents before what is in them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Puts another tree below a directory of this one.
    pub(crate) fn graft(&mut self, below: &str, tree: &Self) {
        self.ensure_directory(below);
        for (path, entry) in &tree.0 {
            let path = if below.is_empty() { path.clone() } else { format!("{below}/{path}") };
            self.put(&path, entry.clone());
        }
    }

    /// What is in a file, through no links.
    pub(crate) fn file(&self, path: &str) -> Option<&Content> {
        match &self.0.get(path)?.node {
            Node::File(content) => Some(content),
            Node::Directory | Node::Symlink(_) => None,
        }
    }

    fn put_parents(&mut self, path: &str) {
        let mut end = 0;
        while let Some(slash) = path.get(end..).and_then(|rest| rest.find('/')) {
            end = end.saturating_add(slash);
            if let Some(parent) = path.get(..end) {
                self.0.entry(parent.to_owned()).or_insert_with(|| Entry::directory(0o755));
            }
            end = end.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_exist() {
        let mut tree = Tree::default();
        tree.put("usr/bin/git", Entry::file(0o755, *b"git"));
        tree.put("usr", Entry::directory(0o711));
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/git"]);
        assert_eq!(tree.get("usr").unwrap().mode, 0o711);
        assert_eq!(tree.file("usr/bin/git"), Some(&Content::from(*b"git")));
    }

    #[test]
    fn a_path_is_resolved_as_the_kernel_does() {
        let mut tree = Tree::default();
        tree.put("lib64", Entry::symlink("usr/lib64"));
        tree.put("usr/lib64/ld.so", Entry::symlink("../lib/./x/ld.so"));
        tree.put("usr/lib/x/ld.so", Entry::symlink("/opt/ld-1.so"));
        tree.put("opt/ld-1.so", Entry::file(0o755, *b"ld"));
        tree.put("loop", Entry::symlink("loop"));
        assert_eq!(tree.resolve("/lib64/ld.so"), Some(&Entry::file(0o755, *b"ld")));
        for missing in ["/lib64/none", "none/ld.so", "loop", "opt/ld-1.so/x"] {
            assert_eq!(tree.resolve(missing), None, "{missing}");
        }
    }

    #[test]
    fn a_graft_lies_below_its_directory() {
        let mut part = Tree::default();
        part.put("etc/x", Entry::symlink("y"));
        let mut tree = Tree::default();
        tree.graft("containers/a/rootfs", &part);
        assert!(tree.get("containers/a/rootfs/etc/x").is_some());
        tree.graft("", &part);
        assert_eq!(tree.get("etc/x").unwrap(), &Entry::symlink("y"));
    }
}
