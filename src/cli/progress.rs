//! How the making of an appliance is shown: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use images::progress::{Event, Progress, Silent, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

mod reports;

use reports::Reports;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    Auto,
    Tty,
    Plain,
    Rawjson,
    #[value(alias = "none")]
    Quiet,
}

/// A [`Progress`] for stderr, whatever that is.
pub(crate) fn to_stderr() -> Box<dyn Progress> {
    styled(Style::Auto)
}

/// A [`Progress`] for stderr, as it was asked for.
pub(super) fn styled(style: Style) -> Box<dyn Progress> {
    match style {
        Style::Quiet => Box::new(Silent),
        Style::Rawjson => Box::new(Reports::new(std::io::stderr())),
        Style::Tty => Box::new(Bars::default()),
        Style::Auto if std::io::stderr().is_terminal() => Box::new(Bars::default()),
        Style::Auto | Style::Plain => Box::new(Lines),
    }
}

/// One line for the start and the end of each stage.
#[derive(Debug)]
struct Lines;

impl Progress for Lines {
    fn event(&self, event: &Event<'_>) {
        if let Some(line) = line(event) {
            eprintln!("{line}");
        }
    }
}

fn line(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Started { stage, .. } => Some(format!("{stage} ...")),
        Event::Ended { stage, took } => Some(format!("{stage}: done in {}", seconds(*took))),
        Event::Said { stage, line } => Some(format!("{stage}: {line}")),
        Event::Advanced { .. } => None,
    }
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A bar for each stage that runs; a line remains of each that has ended.
#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    running: Mutex<HashMap<String, ProgressBar>>,
}

impl Default for Bars {
    fn default() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), running: Mutex::default() }
    }
}

impl Progress for Bars {
    fn event(&self, event: &Event<'_>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { stage, total, unit } => {
                let bar = self.all.add(bar(stage, *total, *unit));
                running.insert((*stage).to_owned(), bar);
            }
            Event::Advanced { stage, done } => {
                if let Some(bar) = running.get(*stage) {
                    bar.set_position(*done);
                }
            }
            Event::Ended { stage, .. } => {
                if let Some(bar) = running.remove(*stage) {
                    bar.finish_and_clear();
                }
            }
            Event::Said { .. } => {}
        }
        if !matches!(event, Event::Started { .. })
            && let Some(line) = line(event)
        {
            // A terminal that is gone has nobody to tell.
            let _ = self.all.println(line);
        }
    }
}

fn bar(stage: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
    let counted = match unit {
        Unit::Bytes => "{bytes} of {total_bytes}",
        Unit::Files => "{pos} of about {len}",
    };
    let template = match total {
        Some(_) => format!("{{msg:32}} {{bar:30}} {counted}, {{eta}} left"),
        None => "{msg:32} {spinner} {elapsed}".to_owned(),
    };
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_message(stage.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use images::progress::{Event, Unit};

    use super::{bar, line};

    #[test]
    fn lines_of_a_log() {
        let started = Event::Started { stage: "kernel", total: None, unit: Unit::Files };
        assert_eq!(line(&started).unwrap(), "kernel ...");
        let ended = Event::Ended { stage: "kernel", took: Duration::from_millis(1234) };
        assert_eq!(line(&ended).unwrap(), "kernel: done in 1.2 s");
        assert_eq!(line(&Event::Advanced { stage: "kernel", done: 3 }), None);
    }

    #[test]
    fn bars_know_their_length() {
        assert_eq!(bar("download", Some(7), Unit::Bytes).length(), Some(7));
        assert_eq!(bar("unpack", None, Unit::Files).length(), None);
    }
}
