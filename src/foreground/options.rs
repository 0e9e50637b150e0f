//! The arguments of `mvm vmm`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use lexopt::{Arg, Parser, ValueExt};

use crate::instance::Accel;

pub(super) const HELP: &str = "\
Run one virtual machine from plain files, until its guest ends

Usage: mvm vmm --kernel FILE [OPTIONS]

      --kernel FILE      An ELF vmlinux with a PVH entry, or a bzImage
      --initrd FILE      An initial ramdisk
      --cmdline TEXT     The kernel's command line
      --disk PATH[,ro]   A raw image, /dev/vda and so on in this order; ,ro makes it read-only (repeatable)
      --accel ENGINE     kvm; tcg, QEMU's emulation, several times slower; or auto, the faster of them that works here
                         [default: auto]
      --cpus N           Processors, 1 to 32 [default: 1]
      --memory SIZE      Memory, as in 256M or 4G [default: 256M]
      --net SOCKET       A network card; SOCKET is a network process's, as `passt --socket SOCKET` makes it [default: none]
      --console PATH|-   Where the guest's console goes; - is standard output [default: -]
      --balloon SIZE     Memory that the guest is asked to give up from the start [default: none]
      --stages           Say on standard error how far the start has come, and after how long
      --no-sandbox       Run outside the sandbox, as for a debugger
                         (--balloon, --stages and --no-sandbox are for kvm only; QEMU has its own sandbox)
  -h, --help             Print this

Exit status: 0 the guest powered off, 1 it or its machine failed, 2 usage, 4 it reset itself, 130 Ctrl-C, 143 SIGTERM,
159 it made a system call that it never makes: a bug, or a guest that broke out into its process and found it shut.
";

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) kernel: PathBuf,
    pub(super) initrd: Option<PathBuf>,
    pub(super) command_line: String,
    pub(super) disks: Vec<Disk>,
    pub(super) accel: Accel,
    pub(super) cpus: u8,
    /// In bytes.
    pub(super) memory: u64,
    /// The network process's.
    pub(super) socket: Option<PathBuf>,
    /// None is standard output.
    pub(super) console: Option<PathBuf>,
    /// In bytes.
    pub(super) balloon: u64,
    pub(super) shows_stages: bool,
    pub(super) is_sandboxed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    pub(super) is_read_only: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Run(Options),
    Help,
}

pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let mut kernel = None;
    let mut options = Options {
        kernel: PathBuf::new(),
        initrd: None,
        command_line: String::new(),
        disks: Vec::new(),
        accel: Accel::Auto,
        cpus: 1,
        memory: 256 << 20,
        socket: None,
        console: None,
        balloon: 0,
        shows_stages: false,
        is_sandboxed: true,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("kernel") => kernel = Some(parser.value()?.into()),
            Arg::Long("initrd") => options.initrd = Some(parser.value()?.into()),
            Arg::Long("cmdline") => options.command_line = parser.value()?.string()?,
            Arg::Long("disk") => options.disks.push(disk(parser.value()?)),
            Arg::Long("accel") => {
                options.accel = parser.value()?.parse_with(|word| Accel::from_str(word, false))?;
            }
            Arg::Long("cpus") => options.cpus = parser.value()?.parse()?,
            Arg::Long("memory") => options.memory = size(&parser.value()?)?,
            Arg::Long("net") => options.socket = Some(parser.value()?.into()),
            Arg::Long("balloon") => options.balloon = size(&parser.value()?)?,
            Arg::Long("stages") => options.shows_stages = true,
            Arg::Long("console") => {
                options.console = Some(PathBuf::from(parser.value()?)).filter(|path| path.as_os_str() != "-");
            }
            Arg::Long("no-sandbox") => options.is_sandboxed = false,
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
            _ => return Err(argument.unexpected()),
        }
    }
    options.kernel = kernel.ok_or("give --kernel FILE")?;
    Ok(Asked::Run(options))
}

impl Options {
    /// The option that only a machine of our own has, if there is one.
    pub(super) fn only_for_kvm(&self) -> Option<&'static str> {
        let asked = [
            ("--balloon", self.balloon > 0),
            ("--stages", self.shows_stages),
            ("--no-sandbox", !self.is_sandboxed),
        ];
        asked.into_iter().find_map(|(name, is_asked)| is_asked.then_some(name))
    }
}

/// In bytes.
fn size(value: &OsString) -> Result<u64, lexopt::Error> {
    Ok(u64::from(value.parse_with(crate::cli::size::memory_mib)?) << 20)
}

/// A name that ends in `,ro` itself has to be given with another one behind it.
fn disk(value: OsString) -> Disk {
    match value.to_str().and_then(|text| text.strip_suffix(",ro")) {
        Some(path) => Disk { path: path.into(), is_read_only: true },
        None => Disk { path: value.into(), is_read_only: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split(' ').map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let Ok(Asked::Run(options)) = parsed("--kernel k") else { panic!("not understood") };
        assert_eq!((options.cpus, options.memory, options.console), (1, 256 << 20, None));
        assert!(options.is_sandboxed);
        let all = "--kernel k --initrd i --cmdline quiet --disk r,ro --disk d --accel tcg --cpus 4 --memory 2G --net /n --console /c --balloon 64M --stages --no-sandbox";
        let Ok(Asked::Run(options)) = parsed(all) else { panic!("not understood") };
        assert_eq!((options.cpus, options.memory, options.is_sandboxed), (4, 2 << 30, false));
        assert_eq!(options.accel, Accel::Tcg);
        assert_eq!((options.console, options.balloon), (Some("/c".into()), 64 << 20));
        assert_eq!(options.socket, Some("/n".into()));
        assert!(options.shows_stages);
        let disk = |path: &str, is_read_only| Disk { path: path.into(), is_read_only };
        assert_eq!(options.disks, [disk("r", true), disk("d", false)]);
    }

    #[test]
    fn what_only_kvm_has_is_known_by_name() {
        for (line, name) in [
            ("--kernel k --memory 1G", None),
            ("--kernel k --balloon 64M", Some("--balloon")),
            ("--kernel k --stages", Some("--stages")),
            ("--kernel k --no-sandbox", Some("--no-sandbox")),
        ] {
            let Ok(Asked::Run(options)) = parsed(line) else { panic!("{line} is not understood") };
            assert_eq!(options.only_for_kvm(), name, "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed("--cpus 2").unwrap_err(), "give --kernel FILE");
        assert_eq!(parsed("--kernel k --accelerate").unwrap_err(), "invalid option '--accelerate'");
        assert!(parsed("--memory lots").unwrap_err().contains("lots is no size"));
        let error = parsed("--kernel k --accel hvf").unwrap_err();
        assert!(error.contains("hvf"), "{error}");
        assert!(parsed("--cpus 300").unwrap_err().contains("300"));
    }
}
