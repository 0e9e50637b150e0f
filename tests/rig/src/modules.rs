//! Which kernel modules have to be loaded for some that are wanted, and in which order.
//!
//! A package of a kernel has no `modules.dep`: depmod makes that where it is installed. Each module says itself what it
//! stands on, in the words `depends=A,B` of its section `.modinfo`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no module {name} in {}", directory.display())]
    Missing { name: String, directory: PathBuf },
}

/// The files of the wanted modules below this directory (`lib/modules/RELEASE`), each after those that it stands on.
/// What is built into the kernel needs none.
pub fn in_order(directory: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>, ModulesError> {
    let mut files = BTreeMap::new();
    collect(directory, &mut files)?;
    let built_in = read(&directory.join("modules.builtin"))?;
    let built_in =
        String::from_utf8_lossy(&built_in).lines().filter_map(|line| name(Path::new(line))).collect();
    let mut order = Order { directory, files, built_in, order: Vec::new() };
    wanted.iter().try_for_each(|name| order.add(name))?;
    Ok(order.order)
}

struct Order<'a> {
    directory: &'a Path,
    files: BTreeMap<String, PathBuf>,
    built_in: Vec<String>,
    order: Vec<PathBuf>,
}

impl Order<'_> {
    fn add(&mut self, wanted: &str) -> Result<(), ModulesError> {
        let wanted = wanted.replace('-', "_");
        if self.built_in.contains(&wanted) {
            return Ok(());
        }
        let missing = || ModulesError::Missing { name: wanted.clone(), directory: self.directory.to_owned() };
        let file = self.files.get(&wanted).ok_or_else(missing)?.clone();
        if self.order.contains(&file) {
            return Ok(());
        }
        for module in depends(&read(&file)?) {
            self.add(&module)?;
        }
        self.order.push(file);
        Ok(())
    }
}

fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let names = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(names).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModulesError> {
    let failed = |source| ModulesError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The module's name, if this is the file of one: `kvm-amd.ko` holds `kvm_amd`.
fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>, ModulesError> {
    fs::read(path).map_err(|source| ModulesError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(of: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("kernel/drivers")).unwrap();
        fs::write(directory.path().join("modules.builtin"), "kernel/virt/lib/irq-bypass.ko\n").unwrap();
        for (name, depends) in of {
            let content = format!("\x7fELF license=GPL\0depends={depends}\0retpoline=Y\0");
            fs::write(directory.path().join(format!("kernel/drivers/{name}.ko")), content).unwrap();
        }
        directory
    }

    #[test]
    fn what_a_module_stands_on_comes_first_and_once() {
        let directory =
            modules(&[("kvm-amd", "kvm,ccp"), ("kvm", "irq_bypass,ccp"), ("ccp", ""), ("tun", "")]);
        let order = in_order(directory.path(), &["kvm-amd", "tun", "ccp", "irq-bypass"]).unwrap();
        let names: Vec<_> = order.iter().filter_map(|path| name(path)).collect();
        assert_eq!(names, ["ccp", "kvm", "kvm_amd", "tun"]);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let directory = modules(&[("kvm-amd", "kvm")]);
        let error = in_order(directory.path(), &["kvm-amd"]).unwrap_err();
        assert!(error.to_string().starts_with("there is no module kvm in "), "{error}");
    }
}
