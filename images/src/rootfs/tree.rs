//! A file tree in memory, in the order of its paths, so that the same parts always make the same image.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Content, links};
use crate::provenance::{Item, Material, Origin};

/// What is at a path. Everything belongs to root unless the definition says otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Extended attributes: capabilities of files, most of all.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    pub(crate) node: Node,
    /// Shared by all that comes from the same place. None only for what tests make.
    pub(crate) origin: Option<Arc<Origin>>,
}

/// By what it is, wherever it comes from.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        // All fields by name: a new one has to be thought of here.
        let Self { mode, uid, gid, xattrs, node, origin: _ } = self;
        (mode, uid, gid, xattrs, node) == (&other.mode, &other.uid, &other.gid, &other.xattrs, &other.node)
    }
}

impl Eq for Entry {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(Content),
    Symlink(String),
    Device { kind: DeviceKind, major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Character,
    Block,
}

/// Paths are relative to the root, without a leading slash; the root itself has no entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
    /// Where what was at a path before came from, the oldest first.
    replaced: BTreeMap<String, Vec<Arc<Origin>>>,
}

/// By what is in it, whatever was there before.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Tree {}

impl Entry {
    pub(crate) fn directory(mode: u32) -> Self {
        Self::new(mode, Node::Directory)
    }

    pub(crate) fn file(mode: u32, content: impl Into<Content>) -> Self {
        Self::new(mode, Node::File(content.into()))
    }

    pub(crate) fn symlink(target: impl Into<String>) -> Self {
        Self::new(0o777, Node::Symlink(target.into()))
    }

    /// Of root.
    pub(crate) fn new(mode: u32, node: Node) -> Self {
        Self { mode, uid: 0, gid: 0, xattrs: BTreeMap::new(), node, origin: None }
    }

    /// It, from there.
    pub(crate) fn of(self, origin: &Arc<Origin>) -> Self {
        Self { origin: Some(Arc::clone(origin)), ..self }
    }
}

impl Tree {
    /// Puts an entry at a path, over what was there, and makes the directories above it. A directory that is there already
    /// keeps what is in it, and takes the newer mode.
    pub(crate) fn put(&mut self, path: &str, entry: Entry) {
        self.put_parents(path, entry.origin.as_ref());
        let is_directory = entry.node == Node::Directory;
        let origin = entry.origin.clone();
        let Some(before) = self.entries.insert(path.to_owned(), entry) else { return };
        let was_directory = before.node == Node::Directory;
        if was_directory && !is_directory {
            self.clear(path);
        }
        if let Some(replaced) = before.origin.filter(|before| Some(before) != origin.as_ref())
            && !(was_directory && is_directory)
        {
            self.replaced.entry(path.to_owned()).or_default().push(replaced);
        }
    }

    /// Puts back what was at a path, and what of it is known; all of a tree is put back, so no directory is made for it.
    pub(crate) fn restore(&mut self, path: String, entry: Entry, replaced: Vec<Arc<Origin>>) {
        if !replaced.is_empty() {
            self.replaced.insert(path.clone(), replaced);
        }
        self.entries.insert(path, entry);
    }

    /// Takes away what is at a path, and below it.
    pub(crate) fn remove(&mut self, path: &str) {
        self.clear(path);
        self.remove_alone(path);
    }

    /// Takes away what is at a path, and leaves what is below it to whoever takes that away too.
    pub(crate) fn remove_alone(&mut self, path: &str) {
        self.entries.remove(path);
        self.replaced.remove(path);
    }

    /// Takes away what is below a directory.
    pub(crate) fn clear(&mut self, path: &str) {
        let below: Vec<_> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in below {
            self.remove_alone(&path);
        }
    }

    /// Everything below a directory.
    pub(crate) fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let start = if path.is_empty() { String::new() } else { format!("{path}/") };
        let prefix = start.clone();
        let from = self.entries.range(start..).take_while(move |(path, _)| path.starts_with(&prefix));
        from.map(|(path, entry)| (path.as_str(), entry))
    }

    /// A path with all links on the way to its last name followed, so that what is put there lies where the kernel would
    /// find it. None where the way leads through something that is no directory, or through links without end.
    pub(crate) fn place(&self, path: &str) -> Option<String> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_right = |_, node: Option<&Node>| matches!(node, None | Some(Node::Directory));
        let above = self.follow(above, is_right)?;
        Some(if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") })
    }

    /// Makes a directory unless something is there.
    pub(crate) fn ensure_directory(&mut self, path: &str, origin: &Arc<Origin>) {
        if !path.is_empty() && !self.entries.contains_key(path) {
            self.put(path, Entry::directory(0o755).of(origin));
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// What is at a path through all links, as the kernel would find it.
    pub(crate) fn resolve(&self, path: &str) -> Option<&Entry> {
        let is_right = |is_last: bool, node: Option<&Node>| is_last || node == Some(&Node::Directory);
        self.get(&self.follow(path, is_right)?)
    }

    /// Where a path leads through all links. What is met on the way, and whether it is the last, is asked about.
    fn follow(&self, path: &str, is_right: impl Fn(bool, Option<&Node>) -> bool) -> Option<String> {
        let node = |path: &str| self.get(path).map(|entry| &entry.node);
        let target = |path: &str| match node(path) {
            Some(Node::Symlink(target)) => Some(target.as_str()),
            _ => None,
        };
        links::follow(path, target, |is_last, path| is_right(is_last, node(path)))
    }

    /// Where what was at a path before came from, the oldest first.
    pub(crate) fn replaced(&self, path: &str) -> &[Arc<Origin>] {
        self.replaced.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// Everything, parents before what is in them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Puts another tree below a directory of this one, because of an entry of the definition.
    pub(crate) fn graft(&mut self, below: &str, tree: &Self, item: Option<&Item>) {
        // Each origin becomes one of that entry, once: many files share it.
        let mut known: HashMap<*const Origin, Arc<Origin>> = HashMap::new();
        let mut because = |origin: &Arc<Origin>| match item {
            None => Arc::clone(origin),
            Some(item) => {
                let made = || Arc::new(Origin { item: Some(item.clone()), ..Origin::clone(origin) });
                Arc::clone(known.entry(Arc::as_ptr(origin)).or_insert_with(made))
            }
        };
        for (path, entry) in &tree.entries {
            let place = if below.is_empty() { path.clone() } else { format!("{below}/{path}") };
            let origin = entry.origin.as_ref().map(&mut because);
            self.put(&place, Entry { origin, ..entry.clone() });
            if let Some(replaced) = tree.replaced.get(path) {
                let all = self.replaced.entry(place).or_default();
                let new: Vec<_> =
                    replaced.iter().map(&mut because).filter(|one| !all.contains(one)).collect();
                all.extend(new);
            }
        }
    }

    /// Puts another tree over this one as an archive is unpacked: through the links of this one, and into its directories.
    pub(crate) fn unpack(&mut self, tree: &Self) {
        for (path, entry) in &tree.entries {
            let is_directory =
                |there: &Self| there.resolve(path).is_some_and(|found| found.node == Node::Directory);
            if entry.node == Node::Directory && is_directory(self) {
                continue;
            }
            let place = self.place(path).unwrap_or_else(|| path.clone());
            self.put(&place, entry.clone());
        }
    }

    /// What is in its files.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &Content> {
        self.entries.values().filter_map(|entry| match &entry.node {
            Node::File(content) => Some(content),
            Node::Directory | Node::Symlink(_) | Node::Device { .. } | Node::Fifo => None,
        })
    }

    /// The same content, kept in another way, for those for which there is one.
    pub(crate) fn replace_contents(&mut self, other: impl Fn(&Content) -> Option<Content>) {
        for entry in self.entries.values_mut() {
            if let Node::File(content) = &mut entry.node
                && let Some(other) = other(content)
            {
                *content = other;
            }
        }
    }

    /// What is in a file, through no links.
    pub(crate) fn file(&self, path: &str) -> Option<&Content> {
        match &self.entries.get(path)?.node {
            Node::File(content) => Some(content),
            Node::Directory | Node::Symlink(_) | Node::Device { .. } | Node::Fifo => None,
        }
    }

    fn put_parents(&mut self, path: &str, origin: Option<&Arc<Origin>>) {
        let mut end = 0;
        while let Some(slash) = path.get(end..).and_then(|rest| rest.find('/')) {
            end = end.saturating_add(slash);
            if let Some(parent) = path.get(..end) {
                self.entries.entry(parent.to_owned()).or_insert_with(|| {
                    let origin = origin.map(|origin| Arc::new(origin.beside(Material::Directory)));
                    Entry { origin, ..Entry::directory(0o755) }
                });
            }
            end = end.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::At;

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
    fn what_takes_the_place_of_a_directory_takes_what_is_in_it_away() {
        let mut tree = Tree::default();
        for path in ["a/x/y", "a/z", "a.b", "a0"] {
            tree.put(path, Entry::file(0o644, *b"x"));
        }
        tree.put("a", Entry::directory(0o700));
        assert_eq!(tree.below("a").map(|(path, _)| path).collect::<Vec<_>>(), ["a/x", "a/x/y", "a/z"]);
        tree.put("a", Entry::symlink("a0"));
        assert_eq!(tree.entries().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "a.b", "a0"]);
        tree.remove("a");
        assert_eq!(tree.entries().count(), 2);
        tree.clear("");
        assert_eq!(tree, Tree::default());
    }

    #[test]
    fn a_place_is_where_the_links_above_it_lead() {
        let mut tree = Tree::default();
        tree.put("bin", Entry::symlink("usr/bin"));
        tree.put("usr/bin/sh", Entry::file(0o755, *b"x"));
        tree.put("up", Entry::symlink("../../etc"));
        tree.put("loop", Entry::symlink("loop"));
        let place = |path| tree.place(path);
        assert_eq!(place("bin/ls").as_deref(), Some("usr/bin/ls"));
        assert_eq!(place("bin").as_deref(), Some("bin"), "the last name is what it is");
        assert_eq!(place("up/passwd").as_deref(), Some("etc/passwd"), "above the root is the root");
        assert_eq!(place("new/deep/x").as_deref(), Some("new/deep/x"));
        assert_eq!(place("x").as_deref(), Some("x"));
        assert_eq!(place("loop/x"), None);
        assert_eq!(place("bin/sh/x"), None);
    }

    #[test]
    fn what_is_unpacked_lies_where_the_links_lead() {
        let mut tree = Tree::default();
        tree.put("lib", Entry::symlink("usr/lib"));
        tree.put("usr/lib", Entry::directory(0o700));
        let mut modules = Tree::default();
        modules.put("lib/modules/x", Entry::file(0o644, *b"x"));
        tree.unpack(&modules);
        assert_eq!(tree.get("lib").unwrap(), &Entry::symlink("usr/lib"));
        assert_eq!(tree.get("usr/lib").unwrap().mode, 0o700);
        assert_eq!(tree.file("usr/lib/modules/x"), Some(&Content::from(*b"x")));
    }

    #[test]
    fn a_graft_lies_below_its_directory() {
        let mut part = Tree::default();
        part.put("etc/x", Entry::symlink("y"));
        let mut tree = Tree::default();
        tree.graft("containers/a/rootfs", &part, None);
        assert!(tree.get("containers/a/rootfs/etc/x").is_some());
        tree.graft("", &part, None);
        assert_eq!(tree.get("etc/x").unwrap(), &Entry::symlink("y"));
    }

    #[test]
    fn each_entry_knows_where_it_comes_from_and_what_was_there_before() {
        let origin = |material| Arc::new(Origin::own(material));
        let [one, two] = ["one", "two"].map(|name| origin(Material::Component(name.to_owned())));
        let mut part = Tree::default();
        part.put("etc/x", Entry::file(0o644, *b"1").of(&one));
        part.put("etc/x", Entry::file(0o644, *b"2").of(&two));
        part.put("etc", Entry::directory(0o755).of(&two));
        part.put("etc/x", Entry::file(0o644, *b"3").of(&two));
        part.put("usr/bin/y", Entry::file(0o755, *b"y").of(&one));
        assert_eq!(part.replaced("etc/x"), std::slice::from_ref(&one));
        assert!(part.replaced("etc").is_empty(), "a directory is not replaced by another");

        let at = At { file: "a.yml".into(), line: 2, column: 5 };
        let item = Item { section: "init".into(), index: 0, name: None, at };
        let mut root = Tree::default();
        let guest = origin(Material::Guest);
        root.put("etc/x", Entry::file(0o644, *b"0").of(&guest));
        root.graft("", &part, Some(&item));
        let because = |origin: &Origin| Origin { item: Some(item.clone()), ..origin.clone() };
        let found = |path| Origin::clone(root.get(path).unwrap().origin.as_ref().unwrap());
        assert_eq!(found("etc/x"), because(&two));
        assert_eq!(found("usr/bin"), because(&one.beside(Material::Directory)), "made for what is in it");
        let replaced: Vec<_> = root.replaced("etc/x").iter().map(|origin| Origin::clone(origin)).collect();
        assert_eq!(replaced, [Origin::clone(&guest), because(&one)]);
        let origins = |path| root.get(path).unwrap().origin.clone().unwrap();
        assert!(Arc::ptr_eq(&origins("etc/x"), &origins("etc")), "files of the same origin share it");
        // What is gone is forgotten.
        root.remove("etc/x");
        assert!(root.replaced("etc/x").is_empty());
    }
}
