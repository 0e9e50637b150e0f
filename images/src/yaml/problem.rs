//! What is wrong with a file, shown where it is.

use std::fmt;

use super::Place;

/// How long a message may be.
const MOST_SAID: usize = 300;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    message: String,
    hint: Option<String>,
    /// None for what a whole definition lacks.
    place: Option<Spot>,
}

/// A place with what it takes to show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    file: String,
    place: Place,
    /// The whole line.
    text: String,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        let mut message = message.into();
        // It may quote what was found, which may be long.
        if let Some((end, _)) = message.char_indices().nth(MOST_SAID) {
            message.truncate(end);
            message.push_str("...");
        }
        Self { message, hint: None, place: None }
    }

    /// What to do about it: `did you mean "x"?`.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// In this file, whose whole text that is.
    #[must_use]
    pub(crate) fn at(mut self, file: &str, text: &str, place: Place) -> Self {
        let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        self.place = Some(Spot { file: file.to_owned(), place, text: line.to_owned() });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(Spot { file, place, .. }) = &self.place {
            write!(f, " at {file}:{place}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        let Some(Spot { place, text, .. }) = &self.place else { return Ok(()) };
        let (shown, before) = window(text, place.column.saturating_sub(1));
        let number = place.line.to_string();
        // As wide as what stands before it, tabs included.
        let blank: String = shown.chars().take(before).map(|c| if c == '\t' { c } else { ' ' }).collect();
        let room = shown.chars().count().saturating_sub(before);
        let mark = "^".repeat(place.width.clamp(1, room.max(1)));
        write!(f, "\n {number} | {shown}\n {:width$} | {blank}{mark}", "", width = number.len())
    }
}

/// Of a long line, what stands around a place; and how much of that stands before it.
fn window(line: &str, before: usize) -> (String, usize) {
    const MOST: usize = 160;
    const MOST_BEFORE: usize = 80;
    let left_out = if line.chars().count() <= MOST { 0 } else { before.saturating_sub(MOST_BEFORE) };
    (line.chars().skip(left_out).take(MOST).collect(), before.saturating_sub(left_out))
}

/// All that is wrong, in the order of the files and their lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// More of them help nobody.
const MOST_SHOWN: usize = 20;

impl Problems {
    pub(crate) fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// What was made, unless something is wrong.
    pub(crate) fn or<T>(mut self, made: T) -> Result<T, Self> {
        // Stable: what is wrong with one place stays in the order in which it was found.
        self.0.sort_by(|one, other| one.place.cmp(&other.place));
        if self.0.is_empty() { Ok(made) } else { Err(self) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the definition is not valid:")?;
        for problem in self.0.iter().take(MOST_SHOWN) {
            write!(f, "\n{problem}")?;
        }
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kernel:\n\timage: x\n  üser: 7 # seven\n";

    fn problem(line: usize, column: usize, width: usize) -> Problem {
        Problem::new("wrong").at("a.yml", TEXT, Place { line, column, width })
    }

    #[test]
    fn a_problem_is_shown_below_its_line() {
        let shown = problem(3, 3, 4).hint("leave it").to_string();
        assert_eq!(shown, "wrong at a.yml:3:3; leave it\n 3 |   üser: 7 # seven\n   |   ^^^^");
        assert_eq!(problem(2, 2, 5).to_string(), "wrong at a.yml:2:2\n 2 | \timage: x\n   | \t^^^^^");
        // No further than the line, and not nowhere.
        assert!(problem(1, 7, 99).to_string().ends_with(" |       ^"));
        assert!(problem(99, 1, 0).to_string().ends_with(" 99 | \n    | ^"));
        assert_eq!(Problem::new("no kernel").to_string(), "no kernel");
        assert!(Problem::new("é".repeat(999)).to_string() == format!("{}...", "é".repeat(300)));
        let long = format!("{}wrong{}", "-".repeat(1000), "-".repeat(1000));
        let shown = Problem::new("x").at("a", &long, Place { line: 1, column: 1001, width: 5 }).to_string();
        let expected =
            format!("\n 1 | {0}wrong{1}\n   | {2}^^^^^", "-".repeat(80), "-".repeat(75), " ".repeat(80));
        assert!(shown.ends_with(&expected), "{shown}");
    }

    #[test]
    fn all_are_told_in_their_order_and_not_without_end() {
        let mut problems = Problems::default();
        assert!(problems.is_empty());
        for line in (0..30).rev() {
            problems.add(Problem::new(format!("number {line}")).at(
                "a.yml",
                "",
                Place { line, column: 1, width: 1 },
            ));
        }
        let shown = problems.or(()).unwrap_err().to_string();
        assert!(shown.starts_with("the definition is not valid:\nnumber 0 at a.yml:0:1\n"), "{shown}");
        assert!(shown.ends_with("and 10 more") && !shown.contains("number 20 at"), "{shown}");
    }
}
