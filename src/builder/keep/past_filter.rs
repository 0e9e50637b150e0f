//! Which builds are meant, as `docker buildx history ls` reads `--filter`.

use std::cmp::Ordering;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::filter::age_of;
use super::{Past, State};

/// `KEY=VALUE`, `KEY!=VALUE`, `KEY<VALUE` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PastFilter {
    Text { of: Text, is_equal: bool, value: String },
    Measure { of: Measure, orders: &'static [Ordering], milliseconds: i64 },
}

/// What is the same or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    Id,
    Repository,
    Status,
}

/// What is less or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Started,
    Completed,
    Duration,
}

impl PastFilter {
    /// What a build does not have matches nothing.
    pub fn matches(&self, past: &Past) -> bool {
        match self {
            Self::Text { of, is_equal, value } => {
                let found = match of {
                    Text::Id => Some(past.id.as_str()),
                    Text::Repository => past.attributes.get("vcs:source").map(String::as_str),
                    Text::Status => Some(past.status.as_str()),
                };
                found.is_some_and(|found| (found == value) == *is_equal)
            }
            Self::Measure { of, orders, milliseconds } => {
                let found = match of {
                    Measure::Started => past.created.map(|time| time.timestamp_millis()),
                    Measure::Completed => past.completed.map(|time| time.timestamp_millis()),
                    Measure::Duration => past.took_ms.and_then(|took| i64::try_from(took).ok()),
                };
                found.is_some_and(|found| orders.contains(&found.cmp(milliseconds)))
            }
        }
    }

    fn text(of: Text, operator: &str, value: &str) -> Result<Self, String> {
        let is_equal = match operator {
            "=" => true,
            "!=" => false,
            _ => return Err(format!("{operator:?} compares times; write = or !=")),
        };
        // As buildx's own page calls it.
        let value = if of == Text::Status && value == "success" { "completed" } else { value };
        if of == Text::Status && !State::ALL.iter().any(|state| state.as_str() == value) {
            let all = State::ALL.map(State::as_str).join(", ");
            return Err(format!("no build is {value:?}; there are {all}"));
        }
        Ok(Self::Text { of, is_equal, value: value.to_owned() })
    }

    fn measure(of: Measure, operator: &str, value: &str, now: DateTime<Utc>) -> Result<Self, String> {
        let orders: &[Ordering] = match operator {
            "<" => &[Ordering::Less],
            "<=" => &[Ordering::Less, Ordering::Equal],
            ">" => &[Ordering::Greater],
            ">=" => &[Ordering::Greater, Ordering::Equal],
            _ => return Err(format!("nothing has just this time; write < or > instead of {operator}")),
        };
        let age = || Ok::<_, String>(i64::try_from(age_of(value)?.as_millis()).unwrap_or(i64::MAX));
        let milliseconds = match of {
            Measure::Duration => age()?,
            Measure::Started | Measure::Completed => match moment(value) {
                Some(moment) => moment.timestamp_millis(),
                None => now.timestamp_millis().saturating_sub(age()?),
            },
        };
        Ok(Self::Measure { of, orders, milliseconds })
    }
}

impl FromStr for PastFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none =
            || format!("{text:?} compares nothing; write KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>VALUE");
        let start = text.find(['=', '!', '<', '>']).ok_or_else(none)?;
        let (key, rest) = text.split_at(start);
        let operator = ["!=", "<=", ">=", "=", "<", ">"].into_iter().find(|one| rest.starts_with(one));
        let operator = operator.ok_or_else(none)?;
        let value = rest.strip_prefix(operator).unwrap_or_default();
        match key {
            "ref" => Self::text(Text::Id, operator, value),
            "repository" => Self::text(Text::Repository, operator, value),
            "status" => Self::text(Text::Status, operator, value),
            "startedAt" => Self::measure(Measure::Started, operator, value, Utc::now()),
            "completedAt" => Self::measure(Measure::Completed, operator, value, Utc::now()),
            "duration" => Self::measure(Measure::Duration, operator, value, Utc::now()),
            _ => Err(format!(
                "no build is found by {key:?}; there are ref, repository, status, startedAt, completedAt and duration"
            )),
        }
    }
}

/// `2026-11-28T12:00:00Z`, or the beginning of a day.
fn moment(text: &str) -> Option<DateTime<Utc>> {
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
    time.or_else(|| Some(day()?.and_time(NaiveTime::MIN).and_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past() -> Past {
        Past {
            id: "abc".to_owned(),
            name: "x".to_owned(),
            status: State::Completed,
            digest: None,
            created: DateTime::from_timestamp(1_700_000_000, 0),
            completed: None,
            took_ms: Some(30_500),
            steps: 1,
            cached_steps: 0,
            warnings: 0,
            pinned: false,
            error: None,
            attributes: [("vcs:source".to_owned(), "git@h:r".to_owned())].into(),
            response: [].into(),
        }
    }

    #[test]
    fn builds_are_found_by_what_they_are() {
        for (filter, is_found) in [
            ("ref=abc", true),
            ("ref!=abc", false),
            ("repository=git@h:r", true),
            ("repository!=other", true),
            ("status=success", true),
            ("status!=error", true),
            ("status=error", false),
            ("duration>30s", true),
            ("duration<30.5s", false),
            ("duration<=30.5s", true),
            ("duration>=1m", false),
            ("startedAt<2023-11-15", true),
            ("startedAt>2023-11-14T22:13:20Z", false),
            ("startedAt>=2023-11-14T22:13:20Z", true),
            ("startedAt>24h", false),
            ("completedAt<24h", false),
        ] {
            assert_eq!(filter.parse::<PastFilter>().unwrap().matches(&past()), is_found, "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_told() {
        for (filter, told) in [
            ("status", "compares nothing"),
            ("status!error", "compares nothing"),
            ("color=red", "no build is found by \"color\"; there are ref,"),
            ("status=failed", "no build is \"failed\"; there are running, completed, canceled, error"),
            ("status<error", "\"<\" compares times; write = or !="),
            ("duration=3s", "write < or > instead of ="),
            ("duration>soon", "\"soon\" is no time"),
            ("startedAt>soon", "\"soon\" is no time"),
        ] {
            let error = filter.parse::<PastFilter>().unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
