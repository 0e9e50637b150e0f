//! What the format has and the builder or init does not do yet: refused before a build, by name.

use crate::error::Error;
use crate::spec::{Definition, Image, VolumeFormat};

pub(crate) fn check(definition: &Definition) -> Result<(), Error> {
    if definition.kernel.image.is_empty() {
        return Err(Error::NoKernel);
    }
    let parts = [(
        "volumes of the format oci",
        definition.volumes.iter().any(|volume| volume.format == Some(VolumeFormat::Oci)),
    )];
    let part = parts.into_iter().find_map(|(part, is_used)| is_used.then(|| part.to_owned()));
    match part.or_else(|| definition.containers().find_map(of_container)) {
        Some(part) => Err(Error::Unserved { part }),
        None => Ok(()),
    }
}

fn of_container(image: &Image) -> Option<String> {
    let runtime = image.runtime.as_ref()?;
    let parts = [
        ("interfaces", runtime.interfaces.is_some()),
        ("bindNS", runtime.bind_ns.is_some()),
        ("namespace", runtime.namespace.is_some()),
    ];
    let part = parts.into_iter().find_map(|(part, is_used)| is_used.then_some(part))?;
    Some(format!("{}: runtime.{part}", image.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_does_not_do_is_refused_before_the_build() {
        let message = |more: &str| {
            let text = format!("kernel: {{image: k}}\nservices: [{{name: a, image: x, {more}}}]\n");
            check(&Definition::parse("a.yml", &text).unwrap()).unwrap_err().to_string()
        };
        assert_eq!(
            message("runtime: {interfaces: [{name: wg0}]}"),
            "a: runtime.interfaces is not built in yet"
        );
        assert_eq!(
            message("runtime: {bindNS: {net: /run/netns/x}}"),
            "a: runtime.bindNS is not built in yet"
        );
        let volumes =
            Definition::parse("a.yml", "{kernel: {image: k}, volumes: [{name: a, format: oci}]}").unwrap();
        assert_eq!(check(&volumes).unwrap_err().to_string(), "volumes of the format oci is not built in yet");
        let none = Definition::parse("a.yml", "files: []").unwrap();
        assert!(check(&none).unwrap_err().to_string().starts_with("the definition names no kernel"));
    }
}
