//! `mvm logs`: what the guest's parts, its console and the supervisor print.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use bollard::container::LogOutput;
use futures::StreamExt;

use super::output::written;
use super::{Context, Failure, ps, run};
use crate::agent::{self, Agent};
use crate::instance::Paths;
use crate::supervisor::{is_file_name, log_path};

/// So much of a file is printed at once.
const PIECE: u64 = 64 * 1024;

/// Show what init, a boot step, a service or a container prints; `console` and `supervisor` are sources too
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A source, such as init, onboot.NNN-NAME, a service's name, a container's, console, supervisor [default: all of the guest's]
    source: Option<String>,
    /// Go on as more comes
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is no log of {source_name}; there are: {}", .known.join(", "))]
    Unknown { source_name: String, known: Vec<String> },
    #[error("no virtual machine runs, and none has run; `mvm up` starts one")]
    Never,
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let paths = context.paths();
    match args.source.as_deref() {
        Some("console") => file(&paths, &paths.console_log(), "console", args.follow).await,
        Some("supervisor") => file(&paths, &paths.supervisor_log(), "supervisor", args.follow).await,
        source => match Agent::at(&paths.agent_socket()).await {
            Ok(_) if source.is_some_and(|source| !is_known(&paths, source)) => {
                let source = source.unwrap_or_default();
                container(context, source, args.follow).await?.ok_or_else(|| unknown(&paths, source).into())
            }
            Ok(agent) => from_guest(&agent, source, args.follow).await,
            Err(_) => kept(&paths, source, args.follow).await,
        },
    }
}

/// What a container has printed, if there is one of that name.
async fn container(context: &Context, name: &str, follow: bool) -> Result<Option<()>, Failure> {
    let builder = ps::containers(context).await?;
    if !builder.has_container(name).await? {
        return Ok(None);
    }
    let mut printed = std::pin::pin!(builder.container_logs(name, follow));
    while let Some(piece) = printed.next().await {
        match piece.map_err(run::explain)? {
            LogOutput::StdErr { message } => std::io::stderr().lock().write_all(&message)?,
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                written(io::stdout().lock().write_all(&message))?;
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(Some(()))
}

async fn from_guest(agent: &Agent, source: Option<&str>, follow: bool) -> Result<(), Failure> {
    let mut lines = agent.logs(source.unwrap_or_default(), follow).await.map_err(Failure::no_machine)?;
    let mut stdout = io::stdout().lock();
    let broken = |status| Failure::no_machine(agent::Error::of("show its logs")(status));
    while let Some(line) = lines.message().await.map_err(broken)? {
        let prefix = if source.is_none() { format!("{}: ", line.source) } else { String::new() };
        written(stdout.write_all(&[prefix.as_bytes(), &line.line, b"\n"].concat()))?;
    }
    Ok(())
}

/// Without a machine that is ready: what it printed so far, or as long as it ran.
async fn kept(paths: &Paths, source: Option<&str>, follow: bool) -> Result<(), Failure> {
    let Some(source) = source else {
        if sources(paths).is_empty() {
            return Err(Failure::no_machine(Error::Never));
        }
        eprintln!("no virtual machine is ready; there are the logs of: {}", sources(paths).join(", "));
        return Ok(());
    };
    if !is_known(paths, source) {
        return Err(unknown(paths, source).into());
    }
    file(paths, &log_path(&paths.logs(), source), source, follow).await
}

async fn file(paths: &Paths, path: &Path, source: &str, follow: bool) -> Result<(), Failure> {
    let failed = |source| Error::Read { path: path.display().to_string(), source };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown(paths, source).into()),
        Err(error) => return Err(failed(error).into()),
    };
    loop {
        let mut text = Vec::new();
        while (&mut file).take(PIECE).read_to_end(&mut text).map_err(failed)? > 0 {
            written(io::stdout().write_all(&text).and_then(|()| io::stdout().flush()))?;
            text.clear();
        }
        if !follow {
            return Ok(());
        }
        // A file tells nobody that it has grown.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn is_known(paths: &Paths, source: &str) -> bool {
    is_file_name(source) && log_path(&paths.logs(), source).exists()
}

fn unknown(paths: &Paths, source: &str) -> Error {
    Error::Unknown { source_name: source.to_owned(), known: sources(paths) }
}

/// The names of all logs, sorted.
fn sources(paths: &Paths) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(paths.logs()) else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use crate::instance::tests::scratch;

    #[test]
    fn unknown_source_is_told_with_those_that_exist() {
        let (_directory, paths) = scratch();
        std::fs::write(paths.logs().join("moby.log"), "").unwrap();
        std::fs::write(paths.logs().join("moby.log.1"), "").unwrap();
        std::fs::write(paths.console_log(), "").unwrap();
        assert!(super::is_known(&paths, "moby"));
        assert!(!super::is_known(&paths, "../secret"));
        assert_eq!(super::unknown(&paths, "x").to_string(), "there is no log of x; there are: console, moby");
    }
}
