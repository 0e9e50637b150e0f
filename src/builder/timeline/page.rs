//! The timeline as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write;

use super::{Kind, Moved, Row, Timeline};

/// What is looked at, and what it is called.
const KINDS: [(Kind, &str, &str); 7] = [
    (Kind::Native, "native", "run by the processor"),
    (Kind::Emulated, "emulated", "run by an emulator"),
    (Kind::Transfer, "transfer", "fetched or sent"),
    (Kind::Export, "export", "exported"),
    (Kind::Internal, "internal", "the builder's own work"),
    (Kind::Cached, "cached", "cached"),
    (Kind::Failed, "failed", "failed"),
];

const STYLE: &str = include_str!("page.css");

/// Marks on the axis, at most.
const MARKS: u64 = 10;

/// The whole page.
pub fn html(timeline: &Timeline) -> String {
    let name = escaped(&timeline.name);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}: timeline</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
    );
    page.push_str(&summary(timeline));
    let scale = Scale::of(timeline.took_ms);
    page.push_str(&axis(&scale));
    for (platform, rows) in timeline.by_platform() {
        let title = platform.map_or_else(|| "the whole build".to_owned(), escaped);
        // Writing to a string does not fail.
        let _ = writeln!(page, "<h2>{title}</h2>");
        for row in rows {
            page.push_str(&line(row, &scale));
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// What it took, and what that went to; the legend as well.
fn summary(timeline: &Timeline) -> String {
    let mut text = format!("<p class=\"summary\"><span>{} in all</span>", time(timeline.took_ms));
    for (kind, class, words) in KINDS {
        let (count, took) = timeline.sum(kind);
        if count > 0 {
            let took = if kind == Kind::Cached { String::new() } else { format!(", {}", time(took)) };
            let _ = write!(text, "<span><i class=\"{class}\"></i>{words}: {count}{took}</span>");
        }
    }
    text + "</p>\n"
}

/// From time to a place between the edges.
struct Scale {
    total: u64,
    step: u64,
}

impl Scale {
    fn of(took_ms: u64) -> Self {
        let total = took_ms.max(1);
        let mut step = 1_u64;
        while total.checked_div(step).is_some_and(|marks| marks >= MARKS) {
            // 1, 2, 5, 10, 20, 50, ...
            let leading = step.to_string().starts_with('2');
            step = if leading { step.saturating_mul(5) / 2 } else { step.saturating_mul(2) };
        }
        Self { total, step }
    }

    /// Thousandths of a percent of the whole width, so that no float is needed.
    fn percent(&self, ms: u64) -> String {
        let share = u128::from(ms.min(self.total)).saturating_mul(100_000);
        let thousandths = share.checked_div(u128::from(self.total)).unwrap_or_default();
        format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
    }
}

fn axis(scale: &Scale) -> String {
    let mut text = "<div class=\"row axis\"><div class=\"name\"></div><div class=\"track\">".to_owned();
    let mut at = 0_u64;
    // One that is nearer to the end would stand beside the page.
    while at.saturating_mul(10) <= scale.total.saturating_mul(9) {
        let _ = write!(text, "<span style=\"left:{}\">{}</span>", scale.percent(at), time(at));
        at = at.saturating_add(scale.step);
    }
    text + "</div></div>\n"
}

fn line(row: &Row, scale: &Scale) -> String {
    let class = KINDS.iter().find(|(kind, ..)| *kind == row.kind).map_or("", |(_, class, _)| class);
    let words = KINDS.iter().find(|(kind, ..)| *kind == row.kind).map_or("", |(.., words)| words);
    let mut said = format!("{}\n{words}, {} from {}", row.name, time(row.took_ms), time(row.started_ms));
    if let Some(emulator) = &row.emulator {
        let _ = write!(said, "\n{emulator}");
    }
    if let Some(error) = &row.error {
        let _ = write!(said, "\n{error}");
    }
    let took = if row.kind == Kind::Cached { "cached".to_owned() } else { time(row.took_ms) };
    let mut text = format!(
        "<div class=\"row step\" title=\"{}\"><div class=\"name\">{}</div><div class=\"track\">",
        escaped(&said),
        escaped(&row.name)
    );
    text.push_str(&bar(class, row.started_ms, row.took_ms, scale));
    // Beside the bar, on the side that has room.
    let end = row.started_ms.saturating_add(row.took_ms);
    let (side, place) = if end.saturating_mul(10) < scale.total.saturating_mul(9) {
        ("left", scale.percent(end))
    } else {
        ("right", scale.percent(scale.total.saturating_sub(row.started_ms)))
    };
    let _ = writeln!(text, "<span class=\"took\" style=\"{side}:{place}\">{took}</span></div></div>");
    text.extend(row.transfers.iter().map(|moved| moved_line(moved, scale)));
    text
}

fn moved_line(moved: &Moved, scale: &Scale) -> String {
    let name = escaped(&moved.name);
    let said = format!("{name}: {} bytes in {}", moved.amount, time(moved.took_ms));
    format!(
        "<div class=\"row moved\" title=\"{said}\"><div class=\"name\">{name}</div><div class=\"track\">{}</div></div>\n",
        bar("transfer", moved.started_ms, moved.took_ms, scale)
    )
}

fn bar(class: &str, start: u64, took: u64, scale: &Scale) -> String {
    format!(
        "<b class=\"{class}\" style=\"left:min({}, 100% - 2px);width:{}\"></b>",
        scale.percent(start),
        scale.percent(took)
    )
}

/// "12 ms", "3.4 s", "2 min 5 s".
fn time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// As a part of a page: everything in it comes from a Dockerfile or from a builder.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        for (took, step) in
            [(0, 1), (9, 1), (10, 2), (19, 2), (999, 100), (1000, 200), (3000, 500), (61_000, 10_000)]
        {
            assert_eq!(Scale::of(took).step, step, "{took}");
        }
        let scale = Scale::of(3000);
        assert_eq!(
            [0, 1, 1500, 3000, 9999].map(|ms| scale.percent(ms)),
            ["0.000%", "0.033%", "50.000%", "100.000%", "100.000%"]
        );
    }

    #[test]
    fn no_mark_stands_at_the_edge() {
        let marks = axis(&Scale::of(3000));
        assert!(marks.contains("left:83.333%") && !marks.contains("left:100"), "{marks}");
    }

    #[test]
    fn nothing_that_was_built_gets_into_the_page_as_markup() {
        let row = Row {
            digest: String::new(),
            name: "RUN echo \"<script>alert(1)</script>\" & x".to_owned(),
            platform: None,
            kind: Kind::Failed,
            emulator: None,
            started_ms: 0,
            took_ms: 65_000,
            error: Some("</style>".to_owned()),
            transfers: Vec::new(),
        };
        let page = html(&Timeline { name: "<b>".to_owned(), took_ms: 65_000, steps: vec![row] });
        assert!(
            !page.contains("<script") && !page.contains("<b>") && page.matches("</style>").count() == 1,
            "{page}"
        );
        assert!(page.contains("RUN echo &quot;&lt;script&gt;") && page.contains("1 min 5 s"), "{page}");
    }
}
