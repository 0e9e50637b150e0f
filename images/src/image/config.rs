//! What an image says of the container that it is for: its configuration, and over that its label.

use oci_spec::image::ImageConfiguration;

use crate::spec::ImageConfig;
use crate::yaml::Problems;

/// The label with a container's fields, without its name and image.
const LABEL: &str = "org.mobyproject.config";

/// Why an image's label cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the label {LABEL} of {image} cannot be used")]
pub struct LabelError {
    image: String,
    source: Problems,
}

/// Of the configuration only what LinuxKit takes: the command, the environment and the working directory.
pub(super) fn of(name: &str, configuration: &ImageConfiguration) -> Result<ImageConfig, LabelError> {
    let Some(config) = configuration.config() else { return Ok(ImageConfig::default()) };
    let command = [config.entrypoint(), config.cmd()].into_iter().flatten().flatten().cloned();
    let command: Vec<_> = command.collect();
    let own = ImageConfig {
        command: (!command.is_empty()).then_some(command),
        env: config.env().clone(),
        cwd: config.working_dir().clone().filter(|directory| !directory.is_empty()),
        ..ImageConfig::default()
    };
    match config.labels().as_ref().and_then(|labels| labels.get(LABEL)) {
        None => Ok(own),
        Some(text) => match ImageConfig::parse_label(&format!("{LABEL} of {name}"), text) {
            Ok(label) => Ok(label.over(&own)),
            Err(source) => Err(LabelError { image: name.to_owned(), source }),
        },
    }
}
