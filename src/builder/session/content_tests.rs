use super::*;

fn store(is_writable: bool) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::open(directory.path()).unwrap();
    (directory, Store { layout, is_writable })
}

fn piece(action: Action, offset: i64, data: &'static [u8], expected: &str) -> Piece {
    Piece {
        action: action.into(),
        offset,
        data: Bytes::from_static(data),
        expected: expected.to_owned(),
        total: 0,
    }
}

/// SHA-256 of `ab`.
const AB: &str = "sha256:fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603";

#[test]
fn contents_come_in_pieces_and_are_there_when_they_are_whole() {
    let (directory, store) = store(true);
    let mut ingest = store.begin(&piece(Action::Stat, 0, b"", AB)).unwrap();
    assert_eq!(store.take(&mut ingest, &piece(Action::Stat, 0, b"", AB)).unwrap().offset, 0);
    assert_eq!(store.take(&mut ingest, &piece(Action::Write, 0, b"x", "")).unwrap().offset, 1);
    // It begins anew, and then a piece is missing.
    assert_eq!(store.take(&mut ingest, &piece(Action::Write, 0, b"a", "")).unwrap().offset, 1);
    assert_eq!(
        store.take(&mut ingest, &piece(Action::Write, 2, b"b", "")).unwrap_err().code(),
        tonic::Code::OutOfRange
    );
    assert_eq!(store.info(AB).unwrap_err().code(), tonic::Code::NotFound);
    let taken = store.take(&mut ingest, &piece(Action::Commit, 1, b"b", AB)).unwrap();
    assert_eq!((taken.digest.as_str(), taken.offset), (AB, 2));
    assert_eq!(store.info(AB).unwrap().size, 2);
    assert_eq!(store.begin(&piece(Action::Stat, 0, b"", AB)).unwrap_err().code(), tonic::Code::AlreadyExists);
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 3, "blobs, index.json and oci-layout, and nothing temporary");
}

#[test]
fn what_is_not_what_was_said_is_not_kept() {
    let (directory, store) = store(true);
    let mut ingest = store.begin(&piece(Action::Stat, 0, b"", AB)).unwrap();
    let error = store.take(&mut ingest, &piece(Action::Commit, 0, b"xx", AB)).unwrap_err();
    assert!(error.message().ends_with(&format!("and not {AB}")), "{error}");
    drop(ingest);
    assert_eq!(std::fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn a_part_of_a_content_is_read() {
    let (_directory, store) = store(true);
    let mut ingest = store.begin(&piece(Action::Stat, 0, b"", "")).unwrap();
    store.take(&mut ingest, &piece(Action::Commit, 0, b"ab", "")).unwrap();
    for (offset, size, wanted) in
        [(0, 0, "ab"), (1, 0, "b"), (0, 1, "a"), (1, 9, "b"), (2, 0, ""), (9, 1, "")]
    {
        let asked = Asked { digest: AB.to_owned(), offset, size };
        let read: Vec<_> = store.read(&asked).unwrap().map(|part| part.unwrap().data).collect().await;
        assert_eq!(read.concat(), wanted.as_bytes(), "{offset} {size}");
    }
    let before = Asked { digest: AB.to_owned(), offset: -1, size: 0 };
    assert_eq!(store.read(&before).err().unwrap().code(), tonic::Code::OutOfRange);
}

#[test]
fn a_digest_is_no_path() {
    let (_directory, store) = store(false);
    for digest in ["", "sha256:../../etc/passwd", "sha512:00", "sha256:zz", "index.json"] {
        assert_eq!(store.info(digest).unwrap_err().code(), tonic::Code::InvalidArgument, "{digest}");
    }
}
