//! Hosts that have none.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use super::NoRing;
use crate::memory::{Memory, Span};

/// Is never made.
#[derive(Debug)]
pub(crate) struct Ring(Infallible);

/// Says that there is none.
pub fn try_out() -> Result<(), NoRing> {
    Err(NoRing::Elsewhere)
}

impl Ring {
    pub(crate) fn new(_file: &File) -> Result<Self, NoRing> {
        Err(NoRing::Elsewhere)
    }

    pub(crate) fn is_idle(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn read(&mut self, _: u16, _: &Memory, _: &[Span], _: u64) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn write(&mut self, _: u16, _: &Memory, _: &[Span], _: u64) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn sync_data(&mut self, _: u16) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn punch_hole(&mut self, _: u16, _: Range<u64>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn zero_range(&mut self, _: u16, _: Range<u64>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn ended(&mut self) -> io::Result<Option<(u16, io::Result<usize>)>> {
        match self.0 {}
    }

    pub(crate) fn wait(&mut self) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn drain(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}
