//! A receiver that speaks the real protocol over channels: it keeps what it was told and asks for what it wants.

use std::collections::BTreeMap;
use std::fs;

use tokio_stream::wrappers::ReceiverStream;

use super::*;

struct Received {
    /// In the order told.
    paths: Vec<String>,
    contents: BTreeMap<String, Vec<u8>>,
    largest_chunk: usize,
    /// How often something was sent.
    sendings: usize,
}

/// Receives `root`, asking only for files that `wants`. Asks while it is still told entries, as the daemon does.
async fn receive(root: &Path, selection: Selection, wants: fn(&str) -> bool) -> Result<Received, SendError> {
    let (outbound, packets) = mpsc::channel(128);
    let (requests, inbound) = mpsc::channel(1024);
    let sender = tokio::spawn(send(root.into(), selection, ReceiverStream::new(inbound), outbound));
    let mut received =
        Received { paths: Vec::new(), contents: BTreeMap::new(), largest_chunk: 0, sendings: 0 };
    let (mut open, mut all_told, mut finished) = (0_usize, false, false);
    let mut sendings = 0;
    let packets = ReceiverStream::new(packets).inspect(|_| sendings += 1);
    let mut packets = packets.flat_map(futures::stream::iter);
    while let Some(packet) = packets.next().await {
        let packet = packet.unwrap();
        match (packet.kind(), packet.stat) {
            (Kind::Stat, Some(stat)) => {
                let id = u32::try_from(received.paths.len()).unwrap();
                let path = String::from_utf8(stat.path).unwrap();
                if stat::has_contents(stat.mode) && stat.link.is_empty() && wants(&path) {
                    received.contents.insert(path.clone(), Vec::new());
                    requests.send(Ok(Packet::request(id))).await.unwrap();
                    open += 1;
                }
                received.paths.push(path);
            }
            (Kind::Stat, None) => all_told = true,
            (Kind::Data, _) if packet.data.is_empty() => open -= 1,
            (Kind::Data, _) => {
                received.largest_chunk = received.largest_chunk.max(packet.data.len());
                let path = &received.paths[usize::try_from(packet.id).unwrap()];
                received.contents.get_mut(path).unwrap().extend_from_slice(&packet.data);
            }
            (Kind::Finish, _) => break,
            (Kind::Error, _) => break,
            (Kind::Request, _) => panic!("a sender asks for nothing"),
        }
        if all_told && open == 0 && !finished {
            finished = true;
            requests.send(Ok(Packet::finish())).await.unwrap();
        }
    }
    drop(packets);
    received.sendings = sendings;
    sender.await.unwrap().map(|()| received)
}

#[tokio::test]
async fn everything_arrives_whole() {
    let tree = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..1_000_003_u32).map(|number| number.to_le_bytes()[1]).collect();
    fs::create_dir_all(tree.path().join("dir/sub")).unwrap();
    fs::write(tree.path().join("dir/large"), &large).unwrap();
    fs::write(tree.path().join("dir/sub/empty"), "").unwrap();
    for number in 0..500 {
        fs::write(tree.path().join(format!("small{number:03}")), number.to_string()).unwrap();
    }
    let received = receive(tree.path(), Selection::default(), |_| true).await.unwrap();
    assert_eq!(received.paths.len(), 504);
    assert_eq!(received.contents["dir/large"], large);
    assert_eq!(received.contents["small123"], b"123");
    assert_eq!(received.contents["dir/sub/empty"], b"");
    assert_eq!(received.largest_chunk, CHUNK);
}

#[tokio::test]
async fn small_packets_go_together() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..500 {
        fs::write(tree.path().join(number.to_string()), "x").unwrap();
    }
    let received = receive(tree.path(), Selection::default(), |_| false).await.unwrap();
    assert_eq!(received.paths.len(), 500);
    // Of 20 to 50 bytes each; and the last packet of all.
    assert!((2..=3).contains(&received.sendings), "{}", received.sendings);
}

#[tokio::test]
async fn only_what_is_asked_for_is_read() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("changed"), "new").unwrap();
    fs::write(tree.path().join("known"), "old").unwrap();
    let received = receive(tree.path(), Selection::default(), |path| path == "changed").await.unwrap();
    assert_eq!(received.paths, ["changed", "known"]);
    assert_eq!(received.contents, BTreeMap::from([("changed".to_owned(), b"new".to_vec())]));
}

#[tokio::test]
async fn a_socket_is_an_empty_file() {
    let tree = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("s")).unwrap();
    let received = receive(tree.path(), Selection::default(), |_| true).await.unwrap();
    assert_eq!(received.contents["s"], b"");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "x").unwrap();
    // What took the file's place since it was told of: a link is not followed.
    let (outbound, mut packets) = mpsc::channel(128);
    let (requests, inbound) = mpsc::channel(8);
    let sender =
        tokio::spawn(send(tree.path().into(), Selection::default(), ReceiverStream::new(inbound), outbound));
    assert!(packets.recv().await.unwrap().remove(0).unwrap().stat.is_some());
    fs::remove_file(tree.path().join("file")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.path().join("file")).unwrap();
    requests.send(Ok(Packet::request(0))).await.unwrap();
    let error = sender.await.unwrap().unwrap_err().to_string();
    assert!(
        error.contains("/file\" of the build context; make it readable, or name it in .dockerignore"),
        "{error}"
    );
}

#[tokio::test]
async fn a_receiver_may_ask_only_for_files_it_was_told_of() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("dir")).unwrap();
    for id in [0, 7] {
        let (outbound, mut packets) = mpsc::channel(128);
        let inbound = tokio_stream::iter([Ok(Packet::request(id))]).chain(tokio_stream::pending());
        let error = send(tree.path().into(), Selection::default(), inbound, outbound).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the builder asked for entry {id} of the build context, which is not a file it may ask for"
            )
        );
        packets.close();
    }
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_transfer() {
    let tree = tempfile::tempdir().unwrap();
    let (outbound, packets) = mpsc::channel(128);
    let ended = tokio_stream::iter(Vec::<Result<Packet, Status>>::new());
    let error = send(tree.path().into(), Selection::default(), ended, outbound).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection ended in the middle of the build context's transfer");
    drop(packets);
}

#[tokio::test]
async fn a_missing_context_is_an_error_in_words() {
    let tree = tempfile::tempdir().unwrap();
    let error = receive(&tree.path().join("gone"), Selection::default(), |_| true).await.err().unwrap();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}
