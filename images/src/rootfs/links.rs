//! Links of a tree, followed inside of it as the kernel follows them inside of a root.

use std::path::{Component, Path};

/// As many as Linux follows on the way to one file.
const MOST_LINKS: u32 = 40;

/// Where a path leads. `target` is where the link at a path leads to, if there is one; what else is met on the way is
/// `is_right` or not, by whether it is the last, and its path.
pub(crate) fn follow<'a>(
    path: &'a str,
    target: impl Fn(&str) -> Option<&'a str>,
    is_right: impl Fn(bool, &str) -> bool,
) -> Option<String> {
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
        let here = place.join("/");
        if let Some(target) = target(&here) {
            links.next()?;
            if target.starts_with('/') {
                place.clear();
            }
            place.pop();
            ahead.extend(target.split('/').rev());
        } else if !is_right(ahead.is_empty(), &here) {
            return None;
        }
    }
    Some(place.join("/"))
}

/// A path of a root, relative to that and without what means nothing. None if it leads out of the root, is not UTF-8 or has a
/// zero in it.
pub(crate) fn below_root(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(part) => parts.push(part.to_str().filter(|part| !part.contains('\0'))?),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_a_root_is_plain() {
        let path = |text: &str| below_root(Path::new(text));
        assert_eq!(path("/etc//x/./y").as_deref(), Some("etc/x/y"));
        assert_eq!(path("./").as_deref(), Some(""));
        assert_eq!(path("etc/../../x"), None);
        assert_eq!(path("etc/a\0b"), None);
    }
}
