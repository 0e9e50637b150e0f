//! `mvm bake`: builds what a bake file describes. For now Docker's buildx reads the file, and the builder is ours.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::build::ports;
use super::child::{self, Ends};
use super::nodes::{BuilderArg, Nodes};
use super::{Context, Failure, context};
use crate::docker::ClientFiles;

/// What buildx is called, alone or as a plugin.
const PROGRAM: &str = "docker-buildx";
/// Where Docker's client looks for plugins besides the user's own directory (docker/cli `cli-plugins/manager`).
const PLUGINS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// What our builder is called in a configuration that only this command sees.
const OURS: &str = "mvm";

/// Build the targets of a bake file, as `docker buildx bake` does
///
/// Needs Docker's buildx (Debian's package docker-buildx), which gets all arguments and builds with the builder that is meant.
/// `mvm bake -- --help` shows what it takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    builder: BuilderArg,
    /// What buildx gets: targets, and its own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "mvm bake needs {PROGRAM}, which is neither in PATH nor among Docker's plugins; install it (Debian's package docker-buildx), or build each image with `mvm build`"
    )]
    NoBuildx,
    #[error("cannot start {program:?}")]
    Start {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let program =
        find(&std::env::var_os("PATH").unwrap_or_default(), plugin_directories()).ok_or(Error::NoBuildx)?;
    let nodes = Nodes::of(context, &args.builder)?;
    let configuration = tempfile::tempdir()?;
    let bake = |more: &[&str]| -> Result<Command, Failure> {
        let mut command = Command::new(&program);
        command.arg("bake").args(more).args(&args.arguments);
        command.env_remove("DOCKER_CONTEXT").env_remove("BUILDKIT_HOST");
        match (nodes.all(), nodes.all().first().and_then(|node| nodes.paths(node))) {
            ([_], Some(paths)) => {
                // The daemon itself, where `mvm run` finds what was built.
                let daemon = format!("unix://{}", paths.docker_socket().display());
                command.env("DOCKER_HOST", daemon).env("BUILDX_BUILDER", "default");
            }
            (all, _) => {
                let all = all
                    .iter()
                    .map(|node| context::of_buildx(context, node))
                    .collect::<Result<Vec<_>, _>>()?;
                ClientFiles::of_buildx(configuration.path()).write_builder(OURS, &all)?;
                command.env("BUILDX_CONFIG", configuration.path()).env("BUILDX_BUILDER", OURS);
            }
        }
        Ok(command)
    };
    let start = |source| Error::Start { program: program.clone(), source };
    // What it is about to build names the registries of this host that it needs.
    let plan =
        bake(&["--print"])?.stderr(Stdio::null()).stdin(Stdio::null()).output().await.map_err(start)?;
    let wanted = serde_json::from_slice(&plan.stdout).map(|plan| ports_of(&plan)).unwrap_or_default();
    let is_ours = nodes.all().iter().any(|node| nodes.paths(node).is_some());
    for port in wanted.iter().filter(|_| is_ours) {
        eprintln!(
            "the bake file names a registry at 127.0.0.1:{port}: the build can reach that port of this machine"
        );
    }
    let mut open = Vec::new();
    for node in nodes.all() {
        open.push(nodes.open_ports(node, wanted.clone()).await?);
    }
    let mut ends = Ends::listen()?;
    // Signals are buildx's: its end is ours.
    let (status, _) = child::run(bake(&[])?, &mut ends).await.map_err(start)?;
    match child::exit_status(status) {
        0 => Ok(()),
        130 => Err(Failure::Interrupted),
        status => Err(Failure::Status(status)),
    }
}

fn plugin_directories() -> Vec<PathBuf> {
    let own = ClientFiles::from_env().ok().map(|files| files.plugins());
    own.into_iter().chain(PLUGINS.iter().map(PathBuf::from)).collect()
}

/// The first of that name, in PATH before the plugins.
fn find(path: &std::ffi::OsStr, plugins: Vec<PathBuf>) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).chain(plugins).map(|directory| directory.join(PROGRAM));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// The loopback ports that a bake file's targets name, in their own texts and in their Dockerfiles.
fn ports_of(plan: &Value) -> Vec<u16> {
    let targets = plan["target"].as_object().into_iter().flat_map(|targets| targets.values());
    let mut found = Vec::new();
    for target in targets {
        texts(target, &mut |text| found.extend(ports::named(text)));
        let context = target["context"].as_str().unwrap_or(".");
        let dockerfile = Path::new(context).join(target["dockerfile"].as_str().unwrap_or("Dockerfile"));
        let arguments = target["args"].as_object().into_iter().flatten();
        let arguments = arguments.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
        if let Ok(text) = std::fs::read_to_string(dockerfile) {
            found.extend(ports::ports_of_dockerfile(&text, &arguments));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Every text of a value, and of an option such as `type=registry,ref=NAME` its values.
fn texts(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => {
            each(text);
            text.split(',').filter_map(|field| Some(field.split_once('=')?.1)).for_each(each);
        }
        Value::Array(all) => all.iter().for_each(|one| texts(one, each)),
        Value::Object(all) => all.values().for_each(|one| texts(one, each)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_all_targets() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("D"), "ARG BASE\nFROM ${BASE}\nFROM 127.0.0.1:5004/x\n")
            .unwrap();
        let plan = serde_json::json!({"target": {
            "a": {
                "context": directory.path(), "dockerfile": "D", "args": {"BASE": "localhost:5003/b"},
                "tags": ["127.0.0.1:5000/a", "ghcr.io/x"], "cache-to": ["type=registry,ref=127.0.0.1:5001/c"],
            },
            "b": {"contexts": {"base": "docker-image://127.0.0.1:5002/d"}},
        }});
        assert_eq!(ports_of(&plan), [5000, 5001, 5002, 5003, 5004]);
        assert_eq!(ports_of(&Value::Null), Vec::<u16>::new());
    }

    #[test]
    fn buildx_is_looked_for_where_docker_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty");
        assert_eq!(find(empty.as_os_str(), vec![directory.path().into()]), None);
        let program = directory.path().join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        assert_eq!(find(empty.as_os_str(), vec![directory.path().into()]), Some(program));
    }
}
