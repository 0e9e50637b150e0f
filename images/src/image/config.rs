//! What an image says of the container that it is for: its configuration, and over that its label.

use oci_spec::image::ImageConfiguration;

use crate::spec::{ImageConfig, OwnConfig};
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
pub(super) fn of(name: &str, configuration: &ImageConfiguration) -> Result<OwnConfig, LabelError> {
    let Some(config) = configuration.config() else { return Ok(OwnConfig::default()) };
    let command = [config.entrypoint(), config.cmd()].into_iter().flatten().flatten().cloned();
    let command: Vec<_> = command.collect();
    let configuration = ImageConfig {
        command: (!command.is_empty()).then_some(command),
        env: config.env().clone(),
        cwd: config.working_dir().clone().filter(|directory| !directory.is_empty()),
        ..ImageConfig::default()
    };
    let label = config.labels().as_ref().and_then(|labels| labels.get(LABEL));
    let label = label.map(|text| ImageConfig::parse_label(&format!("{LABEL} of {name}"), text));
    let label = label.transpose().map_err(|source| LabelError { image: name.to_owned(), source })?;
    Ok(OwnConfig { label: label.unwrap_or_default(), configuration })
}
