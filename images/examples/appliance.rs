//! Builds the appliance with a given guest binary and prints where its parts lie:
//! `appliance DATA CACHE GUEST` builds, `appliance DATA CACHE lock [LINUXKIT_YML]` resolves the packages anew,
//! `appliance DATA CACHE tool NAME` unpacks a tool.

use std::path::PathBuf;

use anyhow::{Context, bail};
use images::progress::Event;
use images::{DEFAULT_REFERENCE, Directories, Guest, Pins, Request, Source};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, cache, action, rest @ ..] = arguments.as_slice() else {
        bail!("usage: appliance DATA CACHE GUEST | lock [LINUXKIT_YML] | tool NAME");
    };
    let directories = Directories { data: data.into(), cache: cache.into() };
    let progress = |event: &Event<'_>| match event {
        Event::Started { stage, .. } => eprintln!("{stage} ..."),
        Event::Said { line, .. } => eprintln!("  {line}"),
        Event::Ended { stage, took } => eprintln!("{stage}: {:.1} s", took.as_secs_f64()),
        Event::Advanced { .. } => {}
    };
    match (action.as_str(), rest) {
        ("lock", rest) => {
            let source = rest.first().map_or(Source::Embedded, |path| Source::from(PathBuf::from(path)));
            for change in images::lock(&source, &directories, &progress)?.0 {
                println!("{change}");
            }
        }
        ("tool", [name]) => {
            let tool = images::tools::ensure(name, &directories, Pins::Exact, &progress)?;
            println!("{}", tool.command.join(" "));
        }
        (guest, _) => {
            let guest = std::fs::read(guest).with_context(|| format!("cannot read {guest}"))?;
            let request = Request {
                source: Source::Embedded,
                guest: Guest { binary: &guest, crates: "" },
                directories: &directories,
                pins: Pins::Exact,
                verified: true,
                reference: DEFAULT_REFERENCE,
                progress: &progress,
            };
            let appliance = images::build(&request)?;
            println!("kernel {}\nroot {}", appliance.kernel.display(), appliance.root.display());
            println!("cmdline {}\ndigest {}", appliance.cmdline, appliance.digest);
        }
    }
    Ok(())
}
