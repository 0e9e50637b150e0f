use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;

use super::*;

/// Plays a sender that sends these packets and then waits; what it was asked and told comes back too.
fn received(place: &Path, packets: Vec<Packet>) -> (Result<(), ExportError>, Vec<(Kind, u32)>) {
    let (sender, packets_in) = mpsc::channel(1000);
    for packet in packets {
        sender.blocking_send(Ok(packet)).unwrap();
    }
    drop(sender);
    let (outbound, mut answers) = mpsc::channel(1000);
    let result = receive(place, packets_in, &outbound).and_then(|arrived| match arrived {
        Arrived::Tree(tree) => tree.check().and_then(|()| tree.commit()),
        Arrived::File(_) => panic!("not a file"),
    });
    drop(outbound);
    let answers = std::iter::from_fn(|| answers.blocking_recv()).map(Result::unwrap);
    (result, answers.map(|packet| (packet.kind(), packet.id)).collect())
}

fn stat(path: &str, mode: u32) -> Stat {
    let modified = 1_600_000_000_000_000_001;
    Stat { path: path.into(), mode, modified, ..Stat::default() }
}

fn file(path: &str) -> Packet {
    Packet::stat(stat(path, 0o640))
}

fn directory(path: &str) -> Packet {
    Packet::stat(stat(path, go_mode::DIRECTORY | 0o555))
}

fn link(path: &str, to: &str) -> Packet {
    Packet::stat(Stat { link: to.into(), ..stat(path, go_mode::SYMLINK | 0o777) })
}

fn names(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_tree_is_merged_into_what_is_there() {
    let place = tempfile::tempdir().unwrap();
    let at = |path: &str| place.path().join(path);
    fs::create_dir(at("d")).unwrap();
    for old in ["d/kept", "d/f", "was-file"] {
        fs::write(at(old), "old").unwrap();
    }
    let linked = Stat { link: b"d/f".to_vec(), ..stat("e", 0o640) };
    let (result, answers) = received(
        place.path(),
        vec![
            directory("d"),
            file("d/f"),
            link("d/l", "/etc/passwd"),
            Packet::stat(linked),
            directory("was-file"),
            file("was-file/x"),
            Packet::end_of_stats(),
            Packet::data(5, Bytes::from_static(b"x")),
            Packet::data(1, Bytes::from_static(b"ne")),
            Packet::data(1, Bytes::from_static(b"w")),
            Packet::end_of_data(5),
            Packet::end_of_data(1),
            Packet::finish(),
        ],
    );
    result.unwrap();
    assert_eq!(answers, [(Kind::Request, 1), (Kind::Request, 5), (Kind::Finish, 0)]);
    assert_eq!(names(place.path()), ["d", "e", "was-file"]);
    assert_eq!(names(&at("d")), ["f", "kept", "l"]);
    let read = |path: &str| fs::read_to_string(at(path)).unwrap();
    assert_eq!([read("d/f"), read("d/kept"), read("e"), read("was-file/x")], ["new", "old", "new", "x"]);
    assert_eq!(fs::read_link(at("d/l")).unwrap(), Path::new("/etc/passwd"));
    let found = fs::metadata(at("d/f")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.mtime_nsec()), (0o640, 1_600_000_000, 1));
    assert_eq!(found.nlink(), 2, "a hard link is one here too");
    let found = fs::metadata(at("d")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o555, 1_600_000_000));
}

#[test]
fn every_path_stays_below_its_place() {
    for packets in [
        vec![file("../x")],
        vec![file("/x")],
        vec![file("")],
        vec![file(".")],
        vec![file("a/")],
        vec![file("a\0b")],
        vec![directory("d"), file("d/../x")],
        vec![directory(".."), file("../x")],
        vec![file("missing/x")],
        // A directory that was left is not entered again, and a link is none.
        vec![directory("a"), directory("b"), file("a/x")],
        vec![link("l", "/tmp"), file("l/x")],
    ] {
        let place = tempfile::tempdir().unwrap();
        let said = format!("{packets:?}");
        let (result, _) = received(place.path(), packets);
        assert!(matches!(result, Err(ExportError::Path(_))), "{said}: {result:?}");
        assert!(names(place.path()).is_empty(), "{said}");
    }
}

#[test]
fn nothing_is_written_through_a_link_or_over_what_came_before() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "mine").unwrap();
    let secret_text = secret.to_str().unwrap();
    let hard = |to: &str| Packet::stat(Stat { link: to.into(), ..stat("z", 0o644) });
    let outside_text = outside.path().to_str().unwrap();
    for packets in [
        vec![link("f", secret_text), file("f")],
        vec![file("f"), link("f", secret_text)],
        vec![hard(secret_text)],
        vec![hard("../secret")],
        vec![link("l", outside_text), hard("l/secret")],
    ] {
        let place = tempfile::tempdir().unwrap();
        let said = format!("{packets:?}");
        let (result, _) = received(place.path(), packets);
        assert!(matches!(result, Err(ExportError::Write { .. })), "{said}: {result:?}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "mine");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        assert!(names(place.path()).is_empty(), "{said}");
    }
}

#[test]
fn contents_come_only_where_they_are_asked_for() {
    let data = || Packet::data(0, Bytes::from_static(b"x"));
    for packets in [
        vec![data()],
        vec![directory("d"), data()],
        vec![file("f"), data(), Packet::end_of_data(0), data()],
        vec![file("f"), Packet::request(0)],
    ] {
        let place = tempfile::tempdir().unwrap();
        let (result, _) = received(place.path(), packets);
        assert!(matches!(result, Err(ExportError::Unasked)), "{result:?}");
    }
    let many: Vec<_> = (0..=OPEN).map(|number| file(&format!("f{number:03}"))).collect();
    let all = (0..u32::try_from(many.len()).unwrap()).map(|id| Packet::data(id, Bytes::from_static(b"x")));
    let place = tempfile::tempdir().unwrap();
    let (result, _) = received(place.path(), many.into_iter().chain(all).collect());
    assert!(matches!(result, Err(ExportError::Unasked)), "too many files at a time: {result:?}");
}

#[test]
fn a_transfer_that_breaks_off_leaves_nothing() {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("new/out");
    let (result, _) = received(&place, vec![file("f"), Packet::data(0, Bytes::from_static(b"x"))]);
    assert!(matches!(result, Err(ExportError::Lost)), "{result:?}");
    assert!(!place.exists());
    let (result, _) = received(&place, vec![file("f"), Packet::error("disk full")]);
    assert_eq!(result.unwrap_err().to_string(), "the builder gave the output's transfer up: disk full");
    assert!(!place.exists());
}

#[test]
fn what_a_directory_cannot_take_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let pipe = Packet::stat(stat("pipe", go_mode::NAMED_PIPE | 0o644));
    let error = received(place.path(), vec![pipe]).0.unwrap_err().to_string();
    assert_eq!(
        error,
        "the build's output has a device or a pipe at \"pipe\", which goes to an archive only; write type=tar"
    );
    fs::create_dir(place.path().join("x")).unwrap();
    let packets = vec![file("x"), Packet::end_of_stats(), Packet::end_of_data(0), Packet::finish()];
    let error = received(place.path(), packets).0.unwrap_err().to_string();
    assert!(error.ends_with("x\", where a directory is; move it away, or name another place"), "{error}");
    assert_eq!(names(place.path()), ["x"]);
}

#[test]
fn attributes_that_a_kernel_acts_on_are_left_out() {
    let place = tempfile::tempdir().unwrap();
    let names = ["user.mvm", "trusted.overlay.opaque"];
    let attributes: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), b"y".to_vec())).collect();
    let packets = vec![
        Packet::stat(Stat { attributes, ..stat("f", 0o644) }),
        Packet::end_of_stats(),
        Packet::end_of_data(0),
        Packet::finish(),
    ];
    received(place.path(), packets).0.unwrap();
    let path = place.path().join("f");
    let mut value = [0; 8];
    let got = rustix::fs::lgetxattr(&path, "user.mvm", &mut value[..]);
    // Not every file system has them.
    if got.is_ok() || rustix::fs::lsetxattr(&path, "user.mvm", b"y", XattrFlags::empty()).is_ok() {
        assert_eq!(got, Ok(1));
    }
    assert!(rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut value[..]).is_err());
}
