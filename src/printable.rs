//! What is shown to people: text from the guest, a builder or a registry, made safe for a terminal; and sizes.

/// The text without what would steer a terminal: no control character but tabs, no colours. Line breaks go too: what is
/// shown line by line is cut into lines first.
pub(crate) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    plain.extend(parts.next().into_iter().flat_map(visible));
    for part in parts {
        plain.extend(visible(after_sequence(part)));
    }
    plain
}

/// The same for text of several lines, which stay.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// A size in units of a thousand, as Docker and BuildKit have them: "512B", "1.50kB", "2.00GB".
pub(crate) fn human_size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1000.0;
    for unit in ["kB", "MB"] {
        if value < 1000.0 {
            return format!("{value:.2}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.2}GB")
}

/// What follows a control sequence (ECMA-48, 5.4): `[`, parameters, and one final byte. Other sequences only lose their
/// escape character, which makes text of them.
fn after_sequence(part: &str) -> &str {
    let Some(sequence) = part.strip_prefix('[') else { return part };
    let end = sequence.trim_start_matches(|c: char| ('\u{20}'..='\u{3f}').contains(&c));
    end.strip_prefix(|c: char| ('\u{40}'..='\u{7e}').contains(&c)).unwrap_or(end)
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|character| !character.is_control() || *character == '\t')
}

#[cfg(test)]
mod tests {
    use super::{human_size, printable, printable_lines};

    #[test]
    fn sizes_for_people() {
        let sizes = [
            (0, "0B"),
            (999, "999B"),
            (1_500, "1.50kB"),
            (12_345_678, "12.35MB"),
            (5_000_000_000, "5.00GB"),
            (5_000_000_000_000, "5000.00GB"),
        ];
        for (bytes, wanted) in sizes {
            assert_eq!(human_size(bytes), wanted);
        }
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        for (text, wanted) in [
            ("plain\ttext ü", "plain\ttext ü"),
            ("\u{1b}[1;31mred\u{1b}[0m!", "red!"),
            ("up\u{1b}[2A\u{1b}[Kgone", "upgone"),
            ("title\u{1b}]0;evil\u{7}", "title]0;evil"),
            ("c1 \u{9b}31m", "c1 31m"),
            ("bell\u{7} back\u{8} line\n", "bell back line"),
            ("cut \u{1b}", "cut "),
            ("cut \u{1b}[12", "cut "),
        ] {
            assert_eq!(printable(text), wanted, "{text:?}");
        }
        assert_eq!(printable_lines("a\u{7}\r\n\u{1b}[31mb\n"), "a\nb\n");
    }
}
