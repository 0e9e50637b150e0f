//! Progress on a terminal: the steps in a frame that is drawn anew as they go on, in the form that BuildKit's users know. When the
//! build ends, all steps stay behind.

use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use console::{Style, Term, measure_text_width, truncate_str};

use super::Display;
use super::graph::{Graph, Step};
use crate::builder::solve::Observer;
use crate::printable::printable;

/// A frame is drawn at most this often.
const FRAME: Duration = Duration::from_millis(100);
/// How many lines of a step's output are shown, unless this variable says otherwise.
const LOG_LINES: usize = 6;
const LOG_LINES_VARIABLE: &str = "BUILDKIT_TTY_LOG_LINES";
/// Narrower than this a frame is not drawn: the lines break instead.
const NARROWEST: usize = 20;

/// Draws to any writer; a writer that fails is not a reason to fail the build.
#[derive(Debug)]
pub struct Tty<W> {
    out: W,
    graph: Graph,
    began: Instant,
    /// When the last frame was drawn, and how many lines it has.
    drawn: Option<Instant>,
    lines: usize,
    log_lines: usize,
    size: fn() -> (usize, usize),
}

impl<W: Write> Tty<W> {
    /// For a writer to the terminal of standard error.
    pub fn new(out: W) -> Self {
        let log_lines = std::env::var(LOG_LINES_VARIABLE).ok().and_then(|lines| lines.parse().ok());
        Self {
            out,
            graph: Graph::default(),
            began: Instant::now(),
            drawn: None,
            lines: 0,
            log_lines: log_lines.unwrap_or(LOG_LINES),
            size,
        }
    }

    fn draw(&mut self, frame: &[String]) {
        let mut text = String::new();
        if self.lines > 0 {
            text.push_str(&format!("\u{1b}[{}A", self.lines));
        }
        for line in frame {
            // What was there before, and is longer, goes.
            text.push_str(line);
            text.push_str("\u{1b}[K\n");
        }
        text.push_str("\u{1b}[J");
        self.lines = frame.len();
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn header(&self, over: bool) -> String {
        let (ended, known) = self.graph.counts();
        let seconds = self.began.elapsed().as_secs_f64();
        format!("[+] Building {seconds:.1}s ({ended}/{known}){}", if over { " FINISHED" } else { "" })
    }

    fn redraw(&mut self) {
        let (rows, columns) = (self.size)();
        let mut frame = vec![truncate_str(&self.header(false), columns, "").into_owned()];
        frame.extend(body(&self.graph, rows.saturating_sub(2), columns, self.log_lines));
        self.draw(&frame);
        self.drawn = Some(Instant::now());
    }
}

fn size() -> (usize, usize) {
    let (rows, columns) = Term::stderr().size();
    (usize::from(rows), usize::from(columns).max(NARROWEST))
}

impl<W: Write> Observer for Tty<W> {
    fn update(&mut self, status: &StatusResponse) {
        self.graph.update(status);
        self.tick();
    }

    fn tick(&mut self) {
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
            self.redraw();
        }
    }

    fn note(&mut self, text: &str) {
        self.draw(&[]);
        let _ = writeln!(self.out, "note: {text}");
    }

    fn end(&mut self) {
        let (_, columns) = (self.size)();
        let mut all = vec![self.header(true)];
        all.extend(self.graph.in_order().into_iter().flat_map(|step| step_lines(step, columns, 0)));
        self.draw(&all);
        self.lines = 0;
        let _ = write!(self.out, "{}", self.graph.warned());
        let _ = self.out.flush();
    }
}

impl<W: Write> Display for Tty<W> {
    fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// The steps that fit: where there are too many, those that ended first are left out, then the output of those that run.
fn body(graph: &Graph, rows: usize, columns: usize, log_lines: usize) -> Vec<String> {
    let steps = graph.in_order();
    let drawn = |log_lines| -> Vec<_> {
        steps.iter().map(|step| (step, step_lines(step, columns, log_lines))).collect()
    };
    let count = |drawn: &[(&&Step, Vec<String>)]| drawn.iter().map(|(_, lines)| lines.len()).sum::<usize>();
    let mut all = drawn(log_lines);
    let mut too_many = count(&all).saturating_sub(rows);
    let mut left_out = HashSet::new();
    for (step, lines) in all.iter().filter(|(step, _)| step.completed.is_some()) {
        if too_many == 0 {
            break;
        }
        too_many = too_many.saturating_sub(lines.len());
        left_out.insert(step.number);
    }
    if too_many > 0 {
        all = drawn(0);
    }
    let shown = all.into_iter().filter(|(step, _)| !left_out.contains(&step.number));
    let mut lines: Vec<_> = shown.flat_map(|(_, lines)| lines).collect();
    // The last ones are what happens now.
    lines.drain(..lines.len().saturating_sub(rows));
    lines
}

/// A step, what it transfers, and the last lines that it printed.
fn step_lines(step: &Step, columns: usize, log_lines: usize) -> Vec<String> {
    let (mark, style) = if step.is_cancelled() {
        ("CANCELED ", Style::new().yellow())
    } else if !step.error.is_empty() {
        ("ERROR ", Style::new().red())
    } else if step.cached {
        ("CACHED ", Style::new().cyan())
    } else if step.completed.is_some() {
        ("", Style::new().cyan())
    } else {
        ("", Style::new())
    };
    let style = style.for_stderr();
    let seconds = |duration: Duration| format!("{:.1}s", duration.as_secs_f64());
    let mut lines =
        vec![row(&format!(" => {mark}{}", step.name), &seconds(step.runs_for()), columns, &style)];
    for transfer in step.transfers() {
        lines.push(row(
            &format!(" => => {}", transfer.text()),
            &seconds(transfer.runs_for()),
            columns,
            &style,
        ));
    }
    if step.completed.is_none() {
        let dim = Style::new().dim().for_stderr();
        lines.extend(step.last_lines(log_lines).map(|line| {
            let line = printable(line).replace('\t', "    ");
            dim.apply_to(truncate_str(&format!(" => => # {line}"), columns, "…")).to_string()
        }));
    }
    lines
}

/// A text at the left, and a time at the right end of the line.
fn row(text: &str, time: &str, columns: usize, style: &Style) -> String {
    let room = columns.saturating_sub(measure_text_width(time)).saturating_sub(1);
    let text = truncate_str(text, room, "…").into_owned();
    let blanks = room.saturating_sub(measure_text_width(&text)).saturating_add(1);
    style.apply_to(format!("{text}{}{time}", " ".repeat(blanks))).to_string()
}

#[cfg(test)]
#[path = "tty_tests.rs"]
mod tests;
