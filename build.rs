//! Builds the guest binary (package `guest`, static, for Linux) and tells the crate where it lies, to be embedded.
//!
//! A nested cargo does it, since the guest wants another target, profile and linking than the host program.
//! `MVM_GUEST_BINARY=PATH` names a finished one instead; a host that is not Linux needs that for a program that works.

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
    Ok(())
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
    let triple = format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
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
