//! Programs from assembly, with Debian's cross assemblers.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::ComponentError;
use crate::architecture::Architecture;
use crate::packages::Packages;
use crate::progress::Stage;
use crate::recipe::{Assembly, Component};
use crate::scratch::Scratch;
use crate::tools::{self, Tool};

/// Why a program could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error("there is no file {0} beside the recipe")]
    NoSource(String),
    #[error("cannot use a directory for intermediate files")]
    Scratch(#[source] io::Error),
    #[error("cannot run {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} refused {source_file}: {message}")]
    Refused { program: String, source_file: String, message: String },
}

/// Every program of the component.
pub(super) fn all<'a>(
    name: &str,
    recipe: &'a Component,
    packages: &Packages<'_>,
) -> Result<Vec<(&'a Assembly, Vec<u8>)>, ComponentError> {
    if recipe.assemble.is_empty() {
        return Ok(Vec::new());
    }
    let binutils = tools::ensure_from("binutils", packages)?;
    let architecture = Architecture::host()?;
    let title = format!("{name}: assemble");
    let make = || {
        let scratch = Scratch::below(&packages.directories.cache).map_err(AssembleError::Scratch)?;
        let one = |assembly: &'a Assembly| {
            let program = one(name, assembly, &binutils, architecture, scratch.path())?;
            Ok((assembly, program))
        };
        recipe.assemble.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    Stage::run(packages.progress, &title, make)
        .map_err(|source| ComponentError::Assemble { component: name.to_owned(), source })
}

fn one(
    name: &str,
    assembly: &Assembly,
    binutils: &Tool,
    architecture: Architecture,
    scratch: &Path,
) -> Result<Vec<u8>, AssembleError> {
    let text = Component::file(name, &assembly.source)
        .ok_or_else(|| AssembleError::NoSource(assembly.source.clone()))?;
    let (source, object, program) = (scratch.join("in.S"), scratch.join("out.o"), scratch.join("out"));
    fs::write(&source, text).map_err(AssembleError::Scratch)?;
    let run = |step: &str, options: &[String], from: &Path, to: &Path| {
        let tool = format!("{}-{step}", assembly.target);
        let mut command = program_of(binutils, architecture, &tool);
        command.args(options).arg("-o").arg(to).arg(from);
        let output =
            command.output().map_err(|source| AssembleError::Start { program: tool.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(AssembleError::Refused { program: tool, source_file: assembly.source.clone(), message })
    };
    run("as", &assembly.as_options, &source, &object)?;
    let mut options = ["-static", "-s", "--build-id=none", "-z", "noexecstack"].map(str::to_owned).to_vec();
    options.extend_from_slice(&assembly.ld_options);
    run("ld", &options, &object, &program)?;
    fs::read(&program).map_err(AssembleError::Scratch)
}

fn program_of(binutils: &Tool, architecture: Architecture, name: &str) -> Command {
    let [loader, option, libraries] = tools::loader(&binutils.root, architecture);
    let mut command = Command::new(loader);
    command.arg(option).arg(libraries).arg(binutils.root.join("usr/bin").join(name)).stdin(Stdio::null());
    command
}
