//! `binfmt DIRECTORY`: registers emulators with the kernel (Documentation/admin-guide/binfmt-misc.rst).
//!
//! The directory holds lines as the kernel takes them, with the emulator's path as it is in the container. The flag F
//! makes the kernel open the emulator when it is registered, so the path is rewritten to where the container's files
//! lie in the guest; afterwards it works in every root.

use std::io;
use std::path::{Path, PathBuf};

use super::Context;
use crate::bundle::path::resolve;

pub(crate) const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage: binfmt DIRECTORY")]
    Usage,
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {text:?} is not a registration (:NAME:TYPE:OFFSET:MAGIC:MASK:INTERPRETER:FLAGS)", path.display())]
    Line { path: PathBuf, text: String },
    #[error("{name} is to be registered, but its emulator {} is not there", emulator.display())]
    NoEmulator { name: String, emulator: PathBuf },
    #[error("the kernel refused the registration {line:?}: {source}")]
    Refused { line: String, source: io::Error },
}

/// A line of the kernel's format, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Registration<'a> {
    separator: char,
    name: &'a str,
    kind: &'a str,
    offset: &'a str,
    magic: &'a str,
    mask: &'a str,
    interpreter: &'a str,
    flags: &'a str,
}

pub(super) fn run(context: &Context<'_>, args: &[String]) -> Result<(), Error> {
    let [directory] = args else { return Err(Error::Usage) };
    let directory = resolve(&context.bundle.rootfs, directory);
    let failed = |path: &Path, source| Error::Read { path: path.to_owned(), source };
    let entries = std::fs::read_dir(&directory).map_err(|source| failed(&directory, source))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|source| failed(&directory, source))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|source| failed(&file, source))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            register(context, &file, line)?;
        }
    }
    Ok(())
}

fn register(context: &Context<'_>, file: &Path, line: &str) -> Result<(), Error> {
    let registration = Registration::parse(line)
        .ok_or_else(|| Error::Line { path: file.to_owned(), text: line.to_owned() })?;
    // A registration goes before the kernel's own loader: it would take over what runs natively.
    if registration.machine().is_some_and(runs_natively) {
        context.say(&format!("{}: left out, the processor runs it", registration.name));
        return Ok(());
    }
    let emulator = resolve(&context.bundle.rootfs, registration.interpreter);
    if !emulator.is_file() {
        return Err(Error::NoEmulator { name: registration.name.to_owned(), emulator });
    }
    let line = registration.with_interpreter(&emulator);
    write(registration.name, &line).map_err(|source| Error::Refused { line: line.clone(), source })?;
    context.say(&format!("{}: {}", registration.name, registration.interpreter));
    Ok(())
}

/// A registration of the same name is replaced.
fn write(name: &str, line: &str) -> io::Result<()> {
    let registry = Path::new(REGISTRY);
    if registry.join(name).exists() {
        std::fs::write(registry.join(name), "-1")?;
    }
    std::fs::write(registry.join("register"), line)
}

impl<'a> Registration<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let separator = line.chars().next()?;
        let mut fields = line.get(separator.len_utf8()..)?.split(separator);
        let mut next = || fields.next();
        let registration = Self {
            separator,
            name: next()?,
            kind: next()?,
            offset: next()?,
            magic: next()?,
            mask: next()?,
            interpreter: next()?,
            flags: next()?,
        };
        let named = !registration.name.is_empty() && !registration.name.contains(['/', '.']);
        (next().is_none() && named && registration.interpreter.starts_with('/')).then_some(registration)
    }

    fn with_interpreter(&self, interpreter: &Path) -> String {
        let Self { separator: s, name, kind, offset, magic, mask, flags, .. } = self;
        format!("{s}{name}{s}{kind}{s}{offset}{s}{magic}{s}{mask}{s}{}{s}{flags}", interpreter.display())
    }

    /// `e_machine` of the ELF header that the magic describes (System V ABI, chapter 4): bytes 18 and 19, in the byte
    /// order that byte 5 tells; with the class in byte 4.
    fn machine(&self) -> Option<Machine> {
        let magic = unescape(self.magic)?;
        let low = *magic.get(18)?;
        let high = *magic.get(19)?;
        let number = match magic.get(5)? {
            2 => u16::from_be_bytes([low, high]),
            _ => u16::from_le_bytes([low, high]),
        };
        Some(Machine { class: *magic.get(4)?, number })
    }
}

/// Which programs an ELF header is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    class: u8,
    number: u16,
}

#[cfg(target_arch = "x86_64")]
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;

/// What this processor and kernel execute themselves; 32-bit x86 on x86_64 too.
#[cfg(target_arch = "x86_64")]
const NATIVE: &[Machine] = &[
    Machine { class: CLASS_64, number: 62 },
    Machine { class: CLASS_32, number: 3 },
    Machine { class: CLASS_32, number: 62 },
];
#[cfg(target_arch = "aarch64")]
const NATIVE: &[Machine] = &[Machine { class: CLASS_64, number: 183 }];

fn runs_natively(machine: Machine) -> bool {
    NATIVE.contains(&machine)
}

/// The kernel's `\xHH` escapes; every other byte stands for itself.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if let (b'\\', [b'x', high, low, after @ ..]) = (*first, after) {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = r":qemu-aarch64:M:0:\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:OCF";

    #[test]
    fn a_line_is_taken_apart_and_put_together_with_another_path() {
        let registration = Registration::parse(AARCH64).unwrap();
        assert_eq!((registration.name, registration.flags), ("qemu-aarch64", "OCF"));
        assert_eq!(registration.interpreter, "/usr/bin/qemu-aarch64");
        let line = registration.with_interpreter(Path::new("/c/rootfs/usr/bin/qemu-aarch64"));
        assert_eq!(line, AARCH64.replace(":/usr", ":/c/rootfs/usr"));
    }

    #[test]
    fn what_is_no_registration_is_refused() {
        for line in
            ["", ":", "qemu", ":a:M:0:m:m:relative:F", ":../x:M:0:m:m:/usr/bin/q:F", ":a:M:0:m:m:/q:F:more"]
        {
            assert_eq!(Registration::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_machine_is_read_in_the_byte_order_of_the_header() {
        let machine = |magic: &str| Registration::parse(&format!(":a:M:0:{magic}::/q:F")).unwrap().machine();
        let zeros = r"\x00".repeat(10);
        let s390x = format!(r"\x7fELF\x02\x02{zeros}\x00\x02\x00\x16");
        assert_eq!(machine(&s390x), Some(Machine { class: 2, number: 22 }));
        assert_eq!(Registration::parse(AARCH64).unwrap().machine(), Some(Machine { class: 2, number: 183 }));
        assert_eq!(machine(r"\x7fELF"), None, "too short to tell");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn thirty_two_bit_x86_is_native_on_x86_64() {
        assert!(runs_natively(Machine { class: 1, number: 3 }));
        assert!(runs_natively(Machine { class: 2, number: 62 }));
        assert!(!runs_natively(Machine { class: 2, number: 183 }));
    }

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"\x7fELF\x00").unwrap(), b"\x7fELF\0");
        assert_eq!(unescape(r"\xzz"), None);
    }
}
