use std::collections::HashMap;

use super::*;

fn find(context: &Path, dockerfile: Option<&str>, stdin: &[u8]) -> Result<Source, String> {
    let dockerfile = dockerfile.map_or(DockerfileAt::Usual, |path| DockerfileAt::Path(Path::new(path)));
    Source::find(context, dockerfile, Vec::new(), stdin).map_err(|error| error.to_string())
}

fn attributes(source: &Source) -> HashMap<String, String> {
    source.attributes().into_iter().collect()
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    builder.append_data(&mut header, "Dockerfile", b"abc".as_slice()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn files_are_found_or_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = |context: &Path, file: Option<&str>| find(context, file, b"").unwrap_err();
    let missing = path.join("Dockerfile");
    assert_eq!(error(path, None), format!("there is no Dockerfile at {missing:?}; name one with -f"));
    std::fs::write(path.join("dockerfile"), "FROM scratch").unwrap();
    assert_eq!(attributes(&find(path, None, b"").unwrap())["filename"], "dockerfile");
    let file = path.join("dockerfile");
    let wanted = "is not a directory; name the directory that holds what the Dockerfile copies";
    assert!(error(&file, None).ends_with(wanted));
    assert!(error(&path.join("no"), None).starts_with("cannot open the build context "));
    assert!(error(path, path.to_str()).starts_with("cannot use "));
    let found = find(path, file.to_str(), b"").unwrap();
    let absolute = std::fs::canonicalize(path).unwrap();
    let directories = ["context", "dockerfile"].map(|name| (name.to_owned(), absolute.clone()));
    assert_eq!(found.directories(), directories);
    assert_eq!(found.dockerfile_text().unwrap(), b"FROM scratch");
}

#[test]
fn standard_input_has_an_archive_or_a_dockerfile() {
    let stdin = Path::new("-");
    let source = find(stdin, Some("a/D"), &archive()).unwrap();
    assert!(matches!(source.archive(), Some(Archive::Stdin(head)) if *head == archive()[..512]));
    let found = attributes(&source);
    assert_eq!(
        (found["filename"].as_str(), found["context"].as_str()),
        ("a/D", "http://buildkit-session/context")
    );
    assert!(source.directories().is_empty() && !found.contains_key("dockerfilekey"));

    let text = "FROM scratch\n".repeat(100);
    let source = find(stdin, None, text.as_bytes()).unwrap();
    assert_eq!(source.dockerfile_text().unwrap(), text.as_bytes());
    assert_eq!(std::fs::read_dir(&source.directories()[0].1).unwrap().count(), 0, "an empty context");
    assert_eq!(attributes(&source), HashMap::from([("filename".to_owned(), "Dockerfile".to_owned())]));

    for (dockerfile, contents, wanted) in [
        (None, &b""[..], "there is nothing on standard input, where the build context should come from"),
        (Some("-"), b"", "`-` is the context, and `-f -` the Dockerfile"),
        (Some("D"), b"FROM scratch\n", "is a Dockerfile, so there cannot be another one with -f"),
        (None, &vec![b'#'; 2 << 20 | 1], "no archive, and too long for a Dockerfile"),
    ] {
        let error = find(stdin, dockerfile, contents).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_dockerfile_may_come_through_standard_input_for_any_context() {
    let directory = tempfile::tempdir().unwrap();
    let source = find(directory.path(), Some("-"), b"FROM x\n").unwrap();
    assert_eq!(source.dockerfile_text().unwrap(), b"FROM x\n");
    assert!(!attributes(&source).contains_key("dockerfilekey"));
    let source = find(Path::new("https://h/r.git#main:sub"), Some("-"), b"FROM x\n").unwrap();
    let found = attributes(&source);
    assert_eq!(
        (found["context"].as_str(), found["dockerfilekey"].as_str()),
        ("https://h/r.git#main:sub", "dockerfile")
    );
    assert!(
        find(directory.path(), Some("-"), b"").unwrap_err().contains("where the Dockerfile should come from")
    );
}

#[test]
fn a_dockerfile_from_elsewhere_goes_with_every_context() {
    let directory = tempfile::tempdir().unwrap();
    let text = DockerfileAt::Text(b"FROM x\n");
    for (context, stdin) in
        [(directory.path(), &b""[..]), (Path::new("https://h/r.git"), b""), (Path::new("-"), &archive())]
    {
        let source = Source::find(context, text, Vec::new(), stdin).unwrap();
        assert_eq!(source.dockerfile_text().unwrap(), b"FROM x\n", "{context:?}");
    }
    let twice = Source::find(Path::new("-"), text, Vec::new(), &b"FROM y\n"[..]).unwrap_err().to_string();
    assert!(twice.contains("there cannot be another one with -f"), "{twice}");
}

#[test]
fn addresses_are_told_from_directories() {
    for (address, ssh) in [
        ("https://github.com/a/b.git", false),
        ("http://h/x.tar.gz", false),
        ("git://h/r", false),
        ("github.com/a/b", false),
        ("git@github.com:a/b.git#v1:sub", true),
        ("ssh://git@h/r", true),
    ] {
        let source = find(Path::new(address), Some("sub/D"), b"").unwrap();
        assert_eq!(attributes(&source)["filename"], "sub/D", "{address}");
        assert_eq!(source.needs_ssh(), ssh, "{address}");
    }
    let query = find(Path::new("https://h/r.git?branch=x"), None, b"").unwrap();
    assert_eq!(query.capabilities(), ["moby.buildkit.frontend.gitquerystring"]);
    for path in ["a:b", "@a:b", "a b@c:d", "a@b", "ftp://x"] {
        assert!(
            find(Path::new(path), None, b"").unwrap_err().starts_with("cannot open the build context"),
            "{path}"
        );
    }
}
