//! What is said in several places: a definition of several files, and an image of its own container.

use std::path::Path;

use super::{Definition, ImageConfig, KernelSpec};

impl Definition {
    /// Takes what another file says of the kernel in place of its own, and adds all the rest. That file's relative paths are
    /// relative to a directory of its own.
    pub(super) fn append(&mut self, more: Self, directory: &Path) {
        // All fields by name: a new one has to be thought of here.
        let Self { kernel, init, volumes, onboot, onshutdown, services, files, trust } = more;
        self.kernel.append(kernel);
        self.init.extend(init);
        self.volumes.extend(volumes);
        self.onboot.extend(onboot);
        self.onshutdown.extend(onshutdown);
        self.services.extend(services);
        self.files.extend(files.into_iter().map(|file| file.below(directory)));
        if let Some(trust) = trust {
            let all = self.trust.get_or_insert_default();
            all.image.extend(trust.image);
            all.org.extend(trust.org);
        }
    }
}

impl KernelSpec {
    fn append(&mut self, more: Self) {
        let Self { image, cmdline, binary, tar, ucode } = more;
        for (own, new) in [(&mut self.image, image), (&mut self.cmdline, cmdline)] {
            if !new.is_empty() {
                *own = new;
            }
        }
        for (own, new) in [(&mut self.binary, binary), (&mut self.tar, tar), (&mut self.ucode, ucode)] {
            if new.is_some() {
                *own = new;
            }
        }
    }
}

/// What an image says of its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnConfig {
    /// By its label, or by the recipe of a component.
    pub(crate) label: ImageConfig,
    /// By the configuration that every image has.
    pub(crate) configuration: ImageConfig,
}

impl OwnConfig {
    /// What holds of it: each field of the label, else of the configuration.
    pub(crate) fn merged(&self) -> ImageConfig {
        self.label.over(&self.configuration)
    }
}

impl From<ImageConfig> for OwnConfig {
    fn from(label: ImageConfig) -> Self {
        Self { label, ..Self::default() }
    }
}
