//! A request under way: what is left of it, as steps that a host carries out; pure.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use vm_memory::GuestAddress;

use super::request::Zeroes;
use crate::memory::Span;

/// Bytes that one step moves.
const AT_A_TIME: usize = 1 << 20;

/// What the host is asked for next. One that moves bytes may move fewer than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Read {
        at: u64,
        into: Vec<Span>,
    },
    Write {
        at: u64,
        from: Vec<Span>,
    },
    Flush,
    /// The host gets the room back.
    Punch(Range<u64>),
    /// The room stays.
    Zero(Range<u64>),
    /// Zeroes by hand, on a file system that has neither of these; moves bytes.
    Fill(Range<u64>),
}

/// What is left of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Read { at: Range<u64>, into: Spans },
    Write { at: Range<u64>, from: Spans },
    Flush,
    Clear { ranges: VecDeque<Zeroes>, by_hand: bool },
    Nothing,
}

impl Work {
    /// `None` when all is done.
    pub(super) fn next(&self) -> Option<Step> {
        match self {
            Self::Read { at, .. } | Self::Write { at, .. } if at.is_empty() => None,
            Self::Read { at, into } => Some(Step::Read { at: at.start, into: into.first(AT_A_TIME) }),
            Self::Write { at, from } => Some(Step::Write { at: at.start, from: from.first(AT_A_TIME) }),
            Self::Flush => Some(Step::Flush),
            Self::Clear { ranges, by_hand } => ranges.front().map(|Zeroes { range, may_unmap }| {
                let step = match (by_hand, may_unmap) {
                    (true, _) => Step::Fill,
                    (false, true) => Step::Punch,
                    (false, false) => Step::Zero,
                };
                step(range.clone())
            }),
            Self::Nothing => None,
        }
    }

    /// The step that was next has ended. An error is the end of the request, but not everything that a host calls one is.
    pub(super) fn ended(&mut self, result: io::Result<usize>) -> io::Result<()> {
        match (self, result) {
            (_, Err(error)) if is_again(&error) => {}
            (Self::Clear { by_hand: by_hand @ false, .. }, Err(error)) if is_unsupported(&error) => {
                *by_hand = true;
            }
            (_, Err(error)) => return Err(error),
            (Self::Read { at, into: buffers } | Self::Write { at, from: buffers }, Ok(moved)) => {
                advance(at, moved)?;
                buffers.skip(moved);
            }
            (Self::Clear { ranges, by_hand: true }, Ok(moved)) => {
                let Some(Zeroes { range, .. }) = ranges.front_mut() else { return Ok(()) };
                advance(range, moved)?;
                if range.is_empty() {
                    ranges.pop_front();
                }
            }
            (Self::Clear { ranges, by_hand: false }, Ok(_)) => drop(ranges.pop_front()),
            (work @ (Self::Flush | Self::Nothing), Ok(_)) => *work = Self::Nothing,
        }
        Ok(())
    }
}

fn advance(range: &mut Range<u64>, moved: usize) -> io::Result<()> {
    if moved == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    range.start = range.start.saturating_add(moved as u64).min(range.end);
    Ok(())
}

fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// The driver's buffers that are left, none of them empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spans(VecDeque<Span>);

impl Spans {
    pub(super) fn new(spans: Vec<Span>) -> Self {
        Self(spans.into())
    }

    /// The first `most` bytes.
    fn first(&self, most: usize) -> Vec<Span> {
        let mut room = most;
        let part = |span: &Span| {
            let length = span.length.min(room);
            room = room.saturating_sub(length);
            (length > 0).then_some(Span { length, ..*span })
        };
        self.0.iter().map_while(part).collect()
    }

    fn skip(&mut self, mut count: usize) {
        while let Some(span) = self.0.front_mut() {
            if count < span.length {
                span.address = GuestAddress(span.address.0.saturating_add(count as u64));
                span.length = span.length.saturating_sub(count);
                break;
            }
            count = count.saturating_sub(span.length);
            self.0.pop_front();
        }
    }
}
