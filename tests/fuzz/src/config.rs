//! What users write: a `linuxkit.yml`, and the `instance.json` that mvm keeps for them.
//!
//! Input: the text; one that begins with `{` is of an instance.

use images::spec::Definition;
use mvm::instance::Config;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.starts_with('{') {
        instance(text);
    } else {
        appliance(text);
    }
}

fn appliance(text: &str) {
    let definition = match Definition::parse("linuxkit.yml", text) {
        Ok(definition) => definition,
        Err(problems) => return refused(text, &problems.to_string()),
    };
    // Names become directories.
    for container in definition.onboot.iter().chain(&definition.services) {
        assert!(
            !container.name.is_empty() && !container.name.contains('/') && !container.name.starts_with("..")
        );
    }
    for file in &definition.files {
        let leads_out = std::path::Path::new(&file.path).components().any(|part| part.as_os_str() == "..");
        assert!(!leads_out, "{}", file.path);
    }
    let again = definition.to_yaml().unwrap();
    assert_eq!(Definition::parse("again", &again).unwrap_or_else(|error| panic!("{error}")), definition);
}

/// Each problem is shown where it stands.
fn refused(text: &str, message: &str) {
    let (first, rest) = message.split_once('\n').unwrap();
    assert_eq!(first, "the definition is not valid:");
    assert!(rest.contains(" at linuxkit.yml:"), "{message}");
    // Twenty problems, and two lines of what is wrong with each.
    assert!(message.len() < 60_000, "{} bytes of {}", message.len(), text.len());
}

fn instance(text: &str) {
    let Ok(config) = serde_json::from_str::<Config>(text) else { return };
    let again = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&again).unwrap(), config);
    if config.validate().is_ok() {
        assert!((1..=32).contains(&config.cpus) && config.memory_mib >= 1024);
        assert!((2..=16384).contains(&config.disk_gib) && !config.host_ports.contains(&0));
    }
}
