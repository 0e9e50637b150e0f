//! A tar archive, entry by entry: ustar with the extensions of GNU and of POSIX (pax) that layers have. What an entry says of
//! itself is read in bounded pieces.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::EntryType;

use super::{Fault, LayerError, pax};
use crate::rootfs::DeviceKind;
use crate::rootfs::erofs::has_attribute;

const BLOCK: u64 = 512;
/// How long an extended header may be. Linux has no longer extended attribute than 64 KiB.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// And how many of them there may be for one entry: each kind once is the rule.
const MOST_EXTENSIONS: usize = 16;
/// How much may pad an archive behind its end; a record of tar's is 10 KiB.
const LONGEST_END: u64 = 64 << 20;
const XATTR: &str = "SCHILY.xattr.";
/// As Linux has them.
const LONGEST_ATTRIBUTE: usize = 65_535;
pub(super) const LONGEST_PATH: usize = 4095;
/// Linux has 12 bits for a device's major number, and 20 for the minor one.
const MOST_MAJOR: u32 = 0xfff;
const MOST_MINOR: u32 = 0xf_ffff;

/// An entry, without what is in it.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Of what is in it.
    pub(crate) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Header {
    /// How much is said of it that is kept beside its contents.
    pub(super) fn beside(&self) -> u64 {
        let target = match &self.kind {
            Kind::Symlink(target) | Kind::Link(target) => target.len(),
            Kind::Directory | Kind::File | Kind::Device { .. } | Kind::Fifo => 0,
        };
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        xattrs.fold(target, usize::saturating_add) as u64
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink(String),
    Link(String),
    Device { kind: DeviceKind, major: u32, minor: u32 },
    Fifo,
}

/// What stood before an entry's own header, about it.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    is_sparse: bool,
}

pub(crate) struct Archive<R> {
    from: R,
    /// Of the last entry's contents, what was not read.
    left: u64,
    /// Behind them, to the end of the block.
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0 }
    }

    /// The next entry; none at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Header>, LayerError> {
        let mut extensions = Extensions::default();
        for count in 0.. {
            self.skip()?;
            let Some(raw) = self.block()? else { return Ok(None) };
            let path = match String::from_utf8_lossy(&raw.path_bytes()).into_owned() {
                nameless if nameless.is_empty() => "an extended header".to_owned(),
                path => path,
            };
            let entry = |fault| LayerError::Entry { path: path.clone(), fault };
            let own_size = raw.entry_size().map_err(|_| entry(Fault::Number))?;
            let kind = raw.entry_type();
            let size = match kind {
                kind if is_about_the_next(kind) => own_size,
                kind if has_no_contents(kind) => 0,
                _ => extensions.size.unwrap_or(own_size),
            };
            if is_about_the_next(kind) && (size > LONGEST_EXTENSION || count >= MOST_EXTENSIONS) {
                return Err(entry(Fault::Extension));
            }
            self.left = size;
            let whole = size.checked_next_multiple_of(BLOCK).ok_or(entry(Fault::Number))?;
            self.padding = whole.saturating_sub(size);
            match kind {
                EntryType::GNULongName => extensions.path = Some(self.name().map_err(entry)?),
                EntryType::GNULongLink => extensions.link = Some(self.name().map_err(entry)?),
                EntryType::XHeader => self.pax(&mut extensions).map_err(entry)?,
                // It is about all that follows, and has nothing that counts here: who made the archive, and how.
                EntryType::XGlobalHeader => {}
                kind => return Ok(Some(header(&raw, kind, size, extensions)?)),
            }
        }
        Ok(None)
    }

    /// What is in the last entry.
    pub(crate) fn contents(&mut self) -> Contents<'_, R> {
        Contents(self)
    }

    /// To the next header.
    fn skip(&mut self) -> io::Result<()> {
        let count = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.from.by_ref().take(count), &mut io::sink())?;
        if skipped < count { Err(cut_short()) } else { Ok(()) }
    }

    /// One header; none at the end, which is a block of zeroes, or no block.
    fn block(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut raw = tar::Header::new_old();
        let bytes = raw.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_short().into()),
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            // What pads the archive behind its end counts for its digest.
            if io::copy(&mut self.from.by_ref().take(LONGEST_END), &mut io::sink())? == LONGEST_END {
                return Err(LayerError::End(LONGEST_END));
            }
            return Ok(None);
        }
        let sum = bytes
            .iter()
            .zip(0_usize..)
            .map(|(byte, at)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
        let sum = sum.sum::<u32>();
        if raw.cksum().ok() != Some(sum) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a header whose sum is wrong: this is no archive",
            )
            .into());
        }
        Ok(Some(raw))
    }

    /// The contents of an entry that is about the next one.
    fn extension(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.contents().read_to_end(&mut bytes).map_err(|_| Fault::Extension)?;
        Ok(bytes)
    }

    /// GNU's: ends with a zero.
    fn name(&mut self) -> Result<Vec<u8>, Fault> {
        let mut name = self.extension()?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn pax(&mut self, extensions: &mut Extensions) -> Result<(), Fault> {
        let bytes = self.extension()?;
        for record in pax::records(&bytes) {
            let (key, value) = record.ok_or(Fault::Extension)?;
            let number =
                || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Fault::Number);
            match std::str::from_utf8(key).map_err(|_| Fault::Name)? {
                "path" => extensions.path = Some(value.to_owned()),
                "linkpath" => extensions.link = Some(value.to_owned()),
                "size" => extensions.size = Some(number()?),
                "uid" => extensions.uid = Some(number()?),
                "gid" => extensions.gid = Some(number()?),
                key if key.starts_with("GNU.sparse.") => extensions.is_sparse = true,
                key => {
                    let Some(name) = key.strip_prefix(XATTR) else { continue };
                    let name = self::name(name.as_bytes().to_vec())?;
                    if value.len() > LONGEST_ATTRIBUTE {
                        return Err(Fault::Extension);
                    }
                    // Archives of other systems have such as com.apple.provenance, which Linux would not take.
                    if has_attribute(&name) {
                        extensions.xattrs.insert(name, value.to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}

fn header(
    raw: &tar::Header,
    kind: EntryType,
    size: u64,
    extensions: Extensions,
) -> Result<Header, LayerError> {
    let path = extensions.path.unwrap_or_else(|| raw.path_bytes().into_owned());
    let shown = String::from_utf8_lossy(&path).into_owned();
    let entry = |fault| LayerError::Entry { path: shown.clone(), fault };
    let text = |bytes: Vec<u8>| name(bytes).map_err(entry);
    let link = || {
        let own = || raw.link_name_bytes().map(std::borrow::Cow::into_owned);
        let target = extensions.link.clone().or_else(own).unwrap_or_default();
        if target.len() > LONGEST_PATH { Err(entry(Fault::Long)) } else { text(target) }
    };
    let device = |kind| {
        let number = |number: io::Result<Option<u32>>, most| {
            number.ok().flatten().filter(|number| *number <= most).ok_or(entry(Fault::Number))
        };
        Ok::<_, LayerError>(Kind::Device {
            kind,
            major: number(raw.device_major(), MOST_MAJOR)?,
            minor: number(raw.device_minor(), MOST_MINOR)?,
        })
    };
    if extensions.is_sparse {
        return Err(entry(Fault::Sparse));
    }
    let kind = match kind {
        // What was written before there were kinds has a slash at its end for a directory.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link()?),
        EntryType::Link => Kind::Link(link()?),
        EntryType::Char => device(DeviceKind::Character)?,
        EntryType::Block => device(DeviceKind::Block)?,
        EntryType::Fifo => Kind::Fifo,
        EntryType::GNUSparse => return Err(entry(Fault::Sparse)),
        _ => return Err(entry(Fault::Kind)),
    };
    let fields = raw.as_old();
    let number = |field: &[u8], own: io::Result<u64>, other: Option<u64>| {
        // One that nobody filled in.
        let is_empty = field.iter().all(|byte| matches!(byte, 0 | b' '));
        let own = own.ok().or(is_empty.then_some(0));
        other.or(own).and_then(|number| u32::try_from(number).ok()).ok_or(entry(Fault::Number))
    };
    Ok(Header {
        size,
        mode: number(&fields.mode, raw.mode().map(u64::from), None)? & 0o7777,
        uid: number(&fields.uid, raw.uid(), extensions.uid)?,
        gid: number(&fields.gid, raw.gid(), extensions.gid)?,
        xattrs: extensions.xattrs,
        kind,
        path: text(path)?,
    })
}

/// A header that says more of the one behind it.
fn is_about_the_next(kind: EntryType) -> bool {
    use EntryType as Type;
    matches!(kind, Type::GNULongName | Type::GNULongLink | Type::XHeader | Type::XGlobalHeader)
}

/// Some say how long the file is that they are a link to; nothing follows them.
fn has_no_contents(kind: EntryType) -> bool {
    use EntryType as Type;
    matches!(kind, Type::Link | Type::Symlink | Type::Directory | Type::Char | Type::Block | Type::Fifo)
}

/// What can be the name of something, or lead to it.
fn name(bytes: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty() && !name.contains('\0')).ok_or(Fault::Name)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

/// What is in one entry.
pub(crate) struct Contents<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Archive { from, left, .. } = self.0;
        let count = from.take(*left).read(buffer)?;
        if count == 0 && *left > 0 && !buffer.is_empty() {
            return Err(cut_short());
        }
        *left = left.saturating_sub(count as u64);
        Ok(count)
    }
}
