//! Locks, which may come with a definition from anybody.
//!
//! Input: the lock.

use images::fuzzing::lock;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(locked) = lock(text) else { return };
    for word in locked.words() {
        assert!(word.starts_with(|c: char| c.is_ascii_alphanumeric()), "{word:?} may be an option");
        assert!(!word.contains(|c: char| c.is_whitespace() || "/=".contains(c)), "{word:?} is no word");
    }
    let again = locked.text().unwrap();
    assert_eq!(lock(&again).unwrap_or_else(|error| panic!("{error}")), locked);
}
