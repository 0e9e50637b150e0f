//! The components and tools are embedded: a file added to them is a reason to compile again.

fn main() {
    for path in ["components", "tools", "../linuxkit.yml", "../linuxkit.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
