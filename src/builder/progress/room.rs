//! How much of what a builder says is kept: it may say as much as it likes, and not fill this host's memory.

/// Bytes of a whole build's names, errors, lines and transfers. Those of a build of a hundred steps are some hundred kilobytes.
const ALL: usize = 64 << 20;

/// What is left of them.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(ALL)
    }
}

impl Room {
    /// Whether there were so many bytes; they are taken then.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let rest = self.0.checked_sub(bytes);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    /// As much of a text as there is room for.
    pub(super) fn keep(&mut self, mut text: String) -> String {
        text.truncate(text.floor_char_boundary(self.0));
        text.shrink_to_fit();
        self.take(text.len());
        text
    }

    /// The same, in the place of another.
    pub(super) fn replace(&mut self, old: &mut String, new: String) {
        self.give_back(old.len());
        *old = self.keep(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_cut() {
        let mut room = Room(5);
        assert_eq!(room.keep("äö".to_owned()), "äö");
        assert!(!room.take(2) && room.take(1) && !room.take(1));
        let mut text = "äö".to_owned();
        room.replace(&mut text, "üüü".to_owned());
        assert_eq!((text.as_str(), room.0), ("üü", 0));
        room.give_back(4);
        assert_eq!(room.keep("abcdef".to_owned()), "abcd");
    }
}
