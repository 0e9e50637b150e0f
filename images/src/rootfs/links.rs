//! Links of a tree, followed inside of it as the kernel follows them inside of a root.

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
