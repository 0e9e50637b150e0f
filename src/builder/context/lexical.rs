//! Paths as the wire has them: bytes, `/` between names, no trip to the file system.

/// The shortest path that names the same place without looking at the file system: no empty name, no `.`, no `..`
/// that could be resolved. The empty path is `.`; a rooted path stays rooted and never climbs above its root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match names.last() {
                Some(last) if *last != b".." => {
                    names.pop();
                }
                _ if rooted => {}
                _ => names.push(name),
            },
            _ => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// `path` as seen from the root of a context, climbing above which leads back to it: no leading `/`, `.` for the root.
pub(crate) fn below_root(path: &[u8]) -> Vec<u8> {
    let rooted = clean(&[b"/".as_slice(), path].concat());
    match rooted.strip_prefix(b"/") {
        None | Some(b"") => b".".to_vec(),
        Some(rest) => rest.to_vec(),
    }
}

/// `directory/name`, or `name` alone in the root (`.` or empty).
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() || directory == b"." {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// The path of the directory that holds `path`: `.` for a name in the root.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    split_last(path).0
}

/// The last name of `path`.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    split_last(path).1
}

fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = path.rsplitn(2, |byte| *byte == b'/');
    let last = parts.next().unwrap_or_default();
    (parts.next().unwrap_or(b"."), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(path: &str) -> String {
        String::from_utf8(clean(path.as_bytes())).unwrap()
    }

    #[test]
    fn cleans_as_go_does() {
        for (path, wanted) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("//a/b/..", "/a"),
        ] {
            assert_eq!(cleaned(path), wanted, "of {path:?}");
        }
    }

    #[test]
    fn nothing_climbs_out_of_the_root() {
        for (path, wanted) in [("../../etc/passwd", "etc/passwd"), ("/a/../..", "."), ("a", "a"), ("", ".")] {
            assert_eq!(below_root(path.as_bytes()), wanted.as_bytes(), "of {path:?}");
        }
    }

    #[test]
    fn splits_and_joins() {
        assert_eq!((parent(b"a/b/c"), base(b"a/b/c")), (b"a/b".as_slice(), b"c".as_slice()));
        assert_eq!((parent(b"a"), base(b"a")), (b".".as_slice(), b"a".as_slice()));
        assert_eq!(join(b".", b"a"), b"a");
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
    }
}
