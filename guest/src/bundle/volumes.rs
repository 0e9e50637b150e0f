//! The volumes of the root image: `NAME/lower` is what a volume holds from the start, `NAME/merged` where containers see it.
//! With `NAME/tmp` it can be written to, in memory.

use std::path::Path;

use super::mounts::Mount;
use super::{Error, list};

const DIRECTORY: &str = "/containers/volumes";

/// Puts all of them together, before any container sees one.
pub(crate) fn mount_all() -> Result<(), Error> {
    for place in list(Path::new(DIRECTORY))? {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        mounts(&place).iter().try_for_each(|mount| mount.apply(&format!("the volume {name}")))?;
    }
    Ok(())
}

fn mounts(place: &Path) -> Vec<Mount> {
    let below = |name: &str| place.join(name).to_string_lossy().into_owned();
    let mount = |kind: &str, source: &str, at: &str, options: &[String]| Mount {
        destination: below(at),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.to_vec(),
    };
    if !place.join("tmp").is_dir() {
        return vec![mount("bind", &below("lower"), "merged", &[])];
    }
    let overlay = [
        format!("lowerdir={}", below("lower")),
        format!("upperdir={}", below("tmp/upper")),
        format!("workdir={}", below("tmp/work")),
    ];
    vec![mount("tmpfs", "tmpfs", "tmp", &[]), mount("overlay", "overlay", "merged", &overlay)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_written_to_in_memory_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let shown = |name: &str| place.join(name).display().to_string();
        let only = mounts(place);
        assert_eq!((only.len(), only[0].kind.as_str()), (1, "bind"));
        assert_eq!((&only[0].source, &only[0].destination), (&shown("lower"), &shown("merged")));
        std::fs::create_dir(place.join("tmp")).unwrap();
        let both = mounts(place);
        assert_eq!((both[0].kind.as_str(), &both[0].destination), ("tmpfs", &shown("tmp")));
        assert_eq!((both[1].kind.as_str(), &both[1].destination), ("overlay", &shown("merged")));
        assert_eq!(both[1].options[1], format!("upperdir={}", shown("tmp/upper")));
    }
}
