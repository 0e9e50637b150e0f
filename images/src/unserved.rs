//! What the format has and the builder or init does not do yet: refused before a build, by name.

use crate::error::Error;
use crate::spec::Definition;

pub(crate) fn check(definition: &Definition) -> Result<(), Error> {
    let kernel = &definition.kernel;
    if kernel.image.is_empty() {
        return Err(Error::NoKernel);
    }
    let parts = [
        ("kernel.binary", kernel.binary.is_some()),
        ("kernel.tar", kernel.tar.is_some()),
        ("kernel.ucode", kernel.ucode.is_some()),
    ];
    match parts.into_iter().find_map(|(part, is_used)| is_used.then(|| part.to_owned())) {
        Some(part) => Err(Error::Unserved { part }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_builder_does_not_do_is_refused_before_the_build() {
        let message = |kernel: &str| {
            let text = format!("{{kernel: {{image: k, {kernel}}}}}");
            check(&Definition::parse("a.yml", &text).unwrap()).unwrap_err().to_string()
        };
        assert_eq!(message("binary: bzImage"), "kernel.binary is not built in yet");
        assert_eq!(message("ucode: ucode.cpio"), "kernel.ucode is not built in yet");
        let none = Definition::parse("a.yml", "files: []").unwrap();
        assert!(check(&none).unwrap_err().to_string().starts_with("the definition names no kernel"));
    }
}
