//! Builds the guest binary (package `guest`, static, for Linux) and tells the crate where it lies, to be embedded, and the list
//! of the crates that it is linked with.
//!
//! A nested cargo does it, since the guest wants another target, profile and linking than the host program.
//! `MVM_GUEST_BINARY=PATH` names a finished one instead; a host that is not Linux needs that for a program that works.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    println!("cargo::rerun-if-env-changed=MVM_GUEST_BINARY");
    println!("cargo::rerun-if-changed=build.rs");
    let binary = guest_binary()?;
    println!("cargo::rustc-env=MVM_EMBEDDED_GUEST={}", binary.display());
    let list = PathBuf::from(variable("OUT_DIR")?).join("guest-crates");
    std::fs::write(&list, guest_crates()?)?;
    println!("cargo::rustc-env=MVM_GUEST_CRATES={}", list.display());
    Ok(())
}

/// `NAME VERSION SHA256` of each crate that the guest binary is linked with, by this clone's lock. None where cargo has not all
/// that it takes to tell, as for the guest of another system.
fn guest_crates() -> Outcome<String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["tree", "--package", "guest", "--edges", "normal,no-proc-macro", "--target", &triple()?]);
    cargo.args(["--prefix", "none", "--format", "{p}", "--locked", "--offline"]);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml"));
    clean(&mut cargo);
    let output = cargo.output()?;
    if !output.status.success() {
        println!("cargo::warning=the guest's crates are not known: no bill of materials will list them");
        return Ok(String::new());
    }
    // A line is `NAME vVERSION`, and more about some.
    let tree = String::from_utf8(output.stdout)?;
    let linked = |line| {
        let (name, rest) = str::split_once(line, " v")?;
        Some((name, rest.split(' ').next()?))
    };
    let linked: BTreeSet<_> = tree.lines().filter_map(linked).collect();
    let lock = std::fs::read_to_string(lock)?;
    let line = |package: &str| {
        let value = |key: &str| {
            let found = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            Some(found?.trim_matches('"').to_owned())
        };
        let (name, version) = (value("name")?, value("version")?);
        // What has no checksum is a part of mvm.
        let checksum = value("checksum").filter(|_| linked.contains(&(name.as_str(), version.as_str())))?;
        Some(format!("{name} {version} {checksum}\n"))
    };
    Ok(lock.split("[[package]]").filter_map(line).collect())
}

fn triple() -> Outcome<String> {
    Ok(format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?))
}

fn guest_binary() -> Outcome<PathBuf> {
    if let Some(path) = env::var_os("MVM_GUEST_BINARY") {
        let path = PathBuf::from(path).canonicalize()?;
        println!("cargo::rerun-if-changed={}", path.display());
        return Ok(path);
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return placeholder(&out);
    }
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    for input in ["guest", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    build(&root, &out)
}

/// An empty file, so that the host program type-checks where the guest cannot be linked; `mvm up` refuses it by name.
fn placeholder(out: &Path) -> Outcome<PathBuf> {
    println!(
        "cargo::warning=no guest binary is embedded: set MVM_GUEST_BINARY to one that was built on Linux"
    );
    let path = out.join("no-guest");
    std::fs::write(&path, [])?;
    Ok(path)
}

fn build(root: &Path, out: &Path) -> Outcome<PathBuf> {
    let triple = triple()?;
    // Of its own: this build's directory is locked by the cargo that runs this script.
    let target = out.join("guest");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--package", "guest", "--bin", "guest", "--profile", "guest", "--target", &triple]);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml")).arg("--target-dir").arg(&target);
    if root.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    clean(&mut cargo);
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", triple.replace('-', "_").to_uppercase());
    cargo.env(flags, "-C target-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!(
            "building the guest binary for {triple} failed: {status}; see cargo's messages above"
        )
        .into());
    }
    Ok(target.join(triple).join("guest/guest"))
}

/// Removes what the outer cargo, or `cargo clippy`, meant for its own compiler calls. The job server stays shared.
fn clean(cargo: &mut Command) {
    const NAMES: [&str; 6] = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
    ];
    for name in NAMES {
        cargo.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_CFG_")
            || text.starts_with("CARGO_FEATURE_")
        {
            cargo.env_remove(&name);
        }
    }
}

fn variable(name: &str) -> Outcome<OsString> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: build.rs runs under cargo").into())
}
