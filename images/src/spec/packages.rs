//! `@pkg:DIRECTORY`: a package beside the definition, by the tag that LinuxKit builds it under, which is its directory's tree in git
//! (LinuxKit's `build.yml` and `linuxkit pkg show-tag`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Document;
use crate::yaml::{Node, Problem, Problems, Value};

const PREFIX: &str = "@pkg:";
const BUILD: &str = "build.yml";
const ORGANIZATION: &str = "linuxkit";
/// What LinuxKit puts into a package's tag.
const HASH: [&str; 2] = ["{{.Hash}}", "{{ .Hash }}"];

/// What its tag needs of a package's `build.yml`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Build {
    image: String,
    org: Option<String>,
    tag: Option<String>,
    extra_sources: Option<Vec<String>>,
}

/// Puts the tags in the places of the packages, wherever a scalar names one; what cannot be resolved is told.
pub(super) fn resolve(document: &Document<'_>, node: &mut Node) -> Problems {
    let mut problems = Problems::default();
    if document.is_local {
        visit(document, node, &mut problems);
    }
    problems
}

fn visit(document: &Document<'_>, node: &mut Node, problems: &mut Problems) {
    match &mut node.value {
        Value::List(nodes) => nodes.iter_mut().for_each(|node| visit(document, node, problems)),
        Value::Map(pairs) => pairs.iter_mut().for_each(|pair| visit(document, &mut pair.value, problems)),
        Value::Scalar(scalar) => {
            let Some(package) = scalar.text.strip_prefix(PREFIX) else { return };
            match tag(&document.directory.join(package)) {
                Ok(tag) => scalar.text = tag,
                Err(why) => {
                    let problem = Problem::new(format!("the package {package} has no tag: {why}"));
                    problems.add(problem.at(document.file, document.text, node.place));
                }
            }
        }
    }
}

/// `linuxkit/NAME:HASH`.
fn tag(directory: &Path) -> Result<String, String> {
    let path = directory.join(BUILD);
    let text =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let build: Build =
        serde_yaml::from_str(&text).map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
    if build.extra_sources.is_some_and(|sources| !sources.is_empty()) {
        return Err(format!(
            "{} has extra-sources; write out what `linuxkit pkg show-tag` says",
            path.display()
        ));
    }
    if is_changed(directory)? {
        return Err(format!("{} has changes that are not committed", directory.display()));
    }
    let hash = git(directory, &["rev-parse", "HEAD:./"])?;
    let template = build.tag.as_deref().unwrap_or("{{.Hash}}");
    let tag = HASH.iter().fold(template.to_owned(), |tag, name| tag.replace(name, &hash));
    if tag.contains("{{") {
        return Err(format!("the tag in {} has more than {} in braces", path.display(), "{{.Hash}}"));
    }
    Ok(format!("{}/{}:{tag}", build.org.as_deref().unwrap_or(ORGANIZATION), build.image))
}

/// Whether the directory is another than its tree. `git status` would run the filters that a repository's own files name, and
/// a cloned one may be anybody's: so contents are hashed as they are.
fn is_changed(directory: &Path) -> Result<bool, String> {
    if !git(directory, &["ls-files", "--others", "--exclude-standard", "--", "."])?.is_empty() {
        return Ok(true);
    }
    // `100644 blob HASH<tab>PATH`, each with a zero behind it.
    let tree = git(directory, &["ls-tree", "--full-tree", "-r", "-z", "HEAD:./"])?;
    let entries = tree.split('\0').filter_map(|entry| entry.split_once('\t'));
    let (heads, paths): (Vec<_>, Vec<_>) = entries.unzip();
    if paths.iter().any(|path| directory.join(path).symlink_metadata().is_err()) {
        return Ok(true);
    }
    let files = heads.iter().zip(&paths).filter(|(head, _)| head.starts_with("100"));
    let (hashes, files): (Vec<_>, Vec<_>) =
        files.map(|(head, path)| (head.rsplit(' ').next().unwrap_or_default(), *path)).unzip();
    let found = git(directory, &[&["hash-object", "--no-filters", "--"][..], &files].concat())?;
    Ok(!files.is_empty() && found.lines().ne(hashes))
}

/// What git says. A repository within the files of another is none.
fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
    }
    Err(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Definition;

    /// A repository with a package.
    fn repository(build: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("pkg/one");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join(BUILD), build).unwrap();
        fs::write(package.join("Dockerfile"), "FROM scratch\n").unwrap();
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
        git(directory.path(), &["init", "--quiet"]).unwrap();
        git(directory.path(), &["add", "."]).unwrap();
        git(directory.path(), &[&identity[..], &["commit", "--quiet", "-m", "x"]].concat()).unwrap();
        directory
    }

    fn image(directory: &Path, is_local: bool) -> Result<String, String> {
        let text = "kernel: {image: k}\ninit: ['@pkg:./pkg/one']\n";
        let document = Document { file: "a.yml", text, directory, is_local };
        let definition = Definition::read(&[document]).map_err(|problems| problems.to_string())?;
        Ok(definition.init.concat())
    }

    #[test]
    fn a_package_is_named_by_its_tree() {
        let repository = repository("image: one\n");
        let tree = git(repository.path(), &["rev-parse", "HEAD:pkg/one"]).unwrap();
        assert_eq!(image(repository.path(), true).unwrap(), format!("linuxkit/one:{tree}"));
        // A definition of somebody else's asks nothing of this machine's repositories.
        assert_eq!(image(repository.path(), false).unwrap(), "@pkg:./pkg/one");
        for (file, text) in [("pkg/one/new", ""), ("pkg/one/Dockerfile", "FROM other\n")] {
            let path = repository.path().join(file);
            let before = fs::read_to_string(&path).ok();
            fs::write(&path, text).unwrap();
            let error = image(repository.path(), true).unwrap_err();
            assert!(error.contains("has changes that are not committed at a.yml:2:8"), "{error}");
            match before {
                Some(before) => fs::write(&path, before).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            image(repository.path(), true).unwrap();
        }
    }

    #[test]
    fn what_a_repository_says_is_to_be_run_is_not() {
        let repository = repository("image: one\n");
        let (package, ran) = (repository.path().join("pkg/one"), repository.path().join("ran"));
        fs::write(package.join(".gitattributes"), "* filter=x\n").unwrap();
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
        git(repository.path(), &["add", "."]).unwrap();
        git(repository.path(), &[&identity[..], &["commit", "--quiet", "-m", "x"]].concat()).unwrap();
        let filter = format!("touch {}", ran.display());
        git(repository.path(), &["config", "filter.x.clean", &filter]).unwrap();
        // As if it had been written since.
        fs::write(package.join("Dockerfile"), "FROM scratch\n").unwrap();
        image(repository.path(), true).unwrap();
        assert!(!ran.exists());
    }

    #[test]
    fn a_package_may_name_its_organization_and_its_tag() {
        let repository = repository("image: one\norg: mine\ntag: v1-{{.Hash}}\n");
        let tree = git(repository.path(), &["rev-parse", "HEAD:pkg/one"]).unwrap();
        assert_eq!(image(repository.path(), true).unwrap(), format!("mine/one:v1-{tree}"));
    }

    #[test]
    fn what_has_no_tag_is_told() {
        let nothing = tempfile::tempdir().unwrap();
        let error = image(nothing.path(), true).unwrap_err();
        assert!(error.contains("the package ./pkg/one has no tag: cannot read "), "{error}");
        for (build, why) in [
            ("org: x\n", "missing field `image`"),
            ("image: one\nextra-sources: [a:b]\n", "has extra-sources"),
            ("image: one\ntag: '{{.Date}}'\n", "in braces"),
        ] {
            let error = image(repository(build).path(), true).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
