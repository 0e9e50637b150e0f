//! An instance: its name, where its files lie, its configuration, its lock and its data disk.

pub mod config;
pub mod data_disk;
pub(crate) mod file;
pub mod lock;
mod name;
mod paths;
pub mod runtime_dir;

pub use config::{Accel, Config};
pub use lock::Lock;
pub use name::{InvalidName, Name};
pub use paths::{Home, NoHome, Paths};

#[cfg(test)]
pub(crate) mod tests {
    use super::{Home, Paths};

    /// An instance in a directory of its own, both directories made.
    pub(crate) fn scratch() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Home::below(directory.path()).instance(&"test".parse().unwrap());
        std::fs::create_dir_all(paths.logs()).unwrap();
        super::runtime_dir::prepare(paths.runtime()).unwrap();
        (directory, paths)
    }
}
