//! Layers as people make them, and as nobody should.

use std::io::Write;

use tar::{Builder, EntryType};

use super::*;
use crate::provenance::Material;
use crate::rootfs::{Content, DeviceKind};

const LIMITS: Limits = Limits { entries: 1000, bytes: 1 << 20 };

/// A layer in the making.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: EntryType, path: &str, link: &str, contents: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        // By hand: the library refuses what it should.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(contents.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    fn file(self, path: &str, contents: &str) -> Self {
        self.raw(EntryType::Regular, path, "", contents.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.raw(EntryType::Directory, path, "", b"")
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        self.raw(kind, path, target, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// What layers, one over the other, make.
fn unpacked(layers: impl IntoIterator<Item = Vec<u8>>) -> Result<Tree, String> {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::below(directory.path()).unwrap();
    let (mut tree, mut budget) = (Tree::default(), Budget::new(LIMITS));
    for layer in layers {
        let origin = Arc::new(Origin::own(Material::File));
        apply(&mut tree, layer.as_slice(), &origin, &spool, &mut budget).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        })?;
    }
    Ok(tree)
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.entries().map(|(path, _)| path).collect()
}

fn is(tree: &Tree, path: &str, contents: &str) -> bool {
    tree.file(path) == Some(&Content::from(contents.as_bytes()))
}

#[track_caller]
fn refused(layer: Layer, message: &str) {
    let error = unpacked([layer.bytes()]).unwrap_err();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn everything_that_a_file_system_has_is_kept() {
    let long = format!("{0}/{0}/{0}", "n".repeat(100));
    let layer = Layer::new()
        .directory("./")
        .directory("./etc/")
        .pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\n\x02"),
            ("SCHILY.xattr.com.apple.provenance", b"x"),
            ("uid", b"100000"),
            ("mtime", b"1.5"),
        ])
        .file("etc/a", "one")
        .link(EntryType::Link, "etc/b", "/etc/a")
        // As some archives have it: with the length of what it links to, and nothing that follows.
        .pax(&[("size", b"1000000")])
        .link(EntryType::Symlink, "etc/c", "../../../outside")
        .raw(EntryType::Char, "dev/null", "", b"")
        .raw(EntryType::Block, "dev/loop", "", b"")
        .raw(EntryType::Fifo, "run/fifo", "", b"")
        .pax(&[("path", long.as_bytes())])
        .file("short", "long");
    let tree = unpacked([layer.bytes()]).unwrap();
    let a = tree.get("etc/a").unwrap();
    assert_eq!((a.mode, a.uid, a.gid), (0o4755, 100_000, 8));
    let capability = [("security.capability".to_owned(), b"\x01\n\x02".to_vec())];
    assert_eq!(a.xattrs, capability.into(), "all of it, and none that Linux does not have");
    assert_eq!(tree.get("etc/b"), Some(a), "a hard link is the same file");
    assert_eq!(tree.get("etc/c").unwrap().node, Node::Symlink("../../../outside".to_owned()));
    let device = |kind| Node::Device { kind, major: 1, minor: 3 };
    assert_eq!(tree.get("dev/null").unwrap().node, device(DeviceKind::Character));
    assert_eq!(tree.get("dev/loop").unwrap().node, device(DeviceKind::Block));
    assert_eq!(tree.get("run/fifo").unwrap().node, Node::Fifo);
    assert!(is(&tree, &long, "long"));
}

#[test]
fn a_layer_takes_away_what_lies_below_it_and_nothing_of_its_own() {
    let below = || {
        Layer::new()
            .file("a/one", "1")
            .file("a/two", "2")
            .file("b/old/deep", "x")
            .file("b/keep", "x")
            .file("c", "x")
    };
    // `keep` is a file, and nothing can lie below it.
    let error = unpacked([below().bytes(), Layer::new().file("b/keep/.wh.x", "").bytes()]).unwrap_err();
    assert!(error.starts_with("b/keep/.wh.x: the path leads through what is no directory"), "{error}");
    let above = Layer::new()
        .file("a/.wh.one", "")
        .file("b/new/deep", "y")
        .file("b/.wh..wh..opq", "")
        .file("c", "new")
        .file(".wh.c", "")
        .file("none/.wh.x", "")
        .file(".wh..wh.plnk/x", "")
        .file(".wh..wh.orph", "");
    let tree = unpacked([below().bytes(), above.bytes()]).unwrap();
    assert_eq!(names(&tree), ["a", "a/two", "b", "b/new", "b/new/deep", "c"]);
    assert!(is(&tree, "c", "new"));
    // A directory that is made anew keeps nothing of the old one.
    let above = Layer::new().file("b/new", "n").file(".wh.b", "");
    let tree = unpacked([below().bytes(), above.bytes()]).unwrap();
    assert_eq!(tree.below("b").map(|(path, _)| path).collect::<Vec<_>>(), ["b/new"]);
    // The root is a directory, too.
    let tree =
        unpacked([below().bytes(), Layer::new().file("new", "").file(".wh..wh..opq", "").bytes()]).unwrap();
    assert_eq!(names(&tree), ["new"]);
}

#[test]
fn what_comes_later_takes_the_place_of_what_was_there() {
    let layer = Layer::new()
        .file("a", "first")
        .file("a", "second")
        .file("d/x", "x")
        .directory("d/")
        .link(EntryType::Symlink, "l", "d")
        .file("l/y", "through the link")
        .file("e/x", "x")
        .file("e", "no directory any more")
        .link(EntryType::Symlink, "f", "d")
        .directory("f/");
    let tree = unpacked([layer.bytes()]).unwrap();
    assert_eq!(names(&tree), ["a", "d", "d/x", "d/y", "e", "f", "l"]);
    assert!(is(&tree, "a", "second"));
    assert_eq!(tree.get("f").unwrap().node, Node::Directory);
}

#[test]
fn nothing_leads_out_of_the_root() {
    for path in ["../x", "a/../../x", "/../x", "a/.."] {
        refused(Layer::new().file(path, "x"), &format!("{path}: the path leads out of the root"));
    }
    let tree = unpacked([Layer::new().file("/etc/passwd", "x").file("//a//./b", "y").bytes()]).unwrap();
    assert_eq!(names(&tree), ["a", "a/b", "etc", "etc/passwd"]);
    // Through a link that leads above the root, things lie in the root.
    let layer = Layer::new().link(EntryType::Symlink, "up", "../../..").file("up/x", "x");
    assert_eq!(names(&unpacked([layer.bytes()]).unwrap()), ["up", "x"]);
    refused(
        Layer::new().link(EntryType::Symlink, "l", "l").file("l/x", "x"),
        "l/x: the path leads through what is no directory, or through links without end",
    );
    refused(Layer::new().file("f", "x").file("f/x", "x"), "f/x: the path leads through what is no directory");
    for target in ["../etc/passwd", "nothing", "d", "/"] {
        let layer = Layer::new().directory("d").link(EntryType::Link, "h", target);
        let expected = if target.starts_with("..") {
            "h: the path leads out"
        } else {
            "h: a hard link to what is no file"
        };
        refused(layer, expected);
    }
    // A whiteout of the root, or of what is above it, hides nothing.
    let layer = Layer::new().file("a", "x").file(".wh.", "").file(".wh...", "");
    assert_eq!(names(&unpacked([layer.bytes()]).unwrap()), ["a"]);
}

#[test]
fn what_no_layer_has_is_refused_by_name() {
    refused(Layer::new().raw(EntryType::GNUSparse, "s", "", b""), "s: a sparse file");
    refused(Layer::new().pax(&[("GNU.sparse.major", b"1")]).file("s", "x"), "s: a sparse file");
    refused(Layer::new().raw(EntryType::new(b'9'), "k", "", b""), "k: an entry of a kind that no layer has");
    refused(Layer::new().pax(&[("uid", b"99999999999")]).file("u", ""), "u: a number that cannot be");
    refused(
        Layer::new().pax(&[("size", b"-1")]).file("s", ""),
        "an extended header: a number that cannot be",
    );
    refused(Layer::new().pax(&[("path", b"a\xff")]).file("p", ""), "a\u{fffd}: a name that is not UTF-8");
    refused(
        Layer::new().pax(&[("path", b"a\0b")]).file("p", ""),
        "a\0b: a name that is not UTF-8, is empty or has a zero",
    );
    refused(Layer::new().link(EntryType::Symlink, "l", ""), "l: a name that is not UTF-8, is empty");
    let long = vec![b'x'; 65_536];
    refused(
        Layer::new().pax(&[("SCHILY.xattr.user.x", &long)]).file("x", ""),
        "an extended header: an extended",
    );
    refused(
        Layer::new().pax(&[("linkpath", &long[..4_096])]).link(EntryType::Symlink, "x", "y"),
        "x: a path of more",
    );
    refused(Layer::new().pax(&[("SCHILY.xattr.", b"v")]).file("x", ""), "an extended header: a name that");
    let long = "n".repeat(256);
    refused(
        Layer::new().pax(&[("path", long.as_bytes())]).file("p", ""),
        &format!("{long}: a path of more than"),
    );
    let deep = "d/".repeat(2048) + "x";
    refused(
        Layer::new().pax(&[("path", deep.as_bytes())]).file("p", ""),
        &format!("{deep}: a path of more than"),
    );
    refused(Layer::new().raw(EntryType::XHeader, "x", "", b"17 no record\n"), "x: an extended header");
    refused(
        Layer::new().raw(EntryType::XHeader, "x", "", &vec![b'1'; 2 << 20]),
        "x: an extended header that is too long",
    );
}

#[test]
fn what_grows_without_bound_is_refused() {
    let many = (0..1001).fold(Layer::new(), |layer, number| layer.file(&format!("f{number}"), ""));
    refused(many, "more than 1000 files");
    let half = vec![0; 1 << 19];
    let large = Layer::new().raw(EntryType::Regular, "a", "", &half).raw(EntryType::Regular, "b", "", &half);
    refused(large.file("c", "x"), "more than 1048576 bytes when it is unpacked");
    let extensions = (0..17).fold(Layer::new(), |layer, _| layer.pax(&[("mtime", b"1")]));
    refused(extensions.file("a", ""), "an extended header: an extended header that is too long");
    let mut endless = Layer::new().file("a", "").bytes();
    endless.resize(65 << 20, 0);
    assert_eq!(unpacked([endless]).unwrap_err(), "more than 67108864 bytes behind its end");
    // Refused for what it says, before it is read.
    refused(Layer::new().pax(&[("size", b"1048577")]).file("a", ""), "more than 1048576 bytes");
    refused(
        Layer::new().pax(&[("size", b"18446744073709551615")]).file("a", ""),
        "a: a number that cannot be",
    );
}

#[test]
fn a_layer_that_is_cut_short_or_none_is_refused() {
    let layer = Layer::new().file("a", &"x".repeat(1000)).bytes();
    for length in [1, 511, 513, 600, 1023, 1500] {
        let error = unpacked([layer[..length].to_vec()]).unwrap_err();
        assert!(error.contains("cut short"), "{length}: {error}");
    }
    // An archive may end without its two blocks of zeroes.
    assert_eq!(names(&unpacked([layer[..1536].to_vec()]).unwrap()), ["a"]);
    assert_eq!(names(&unpacked([Vec::new()]).unwrap()), [""; 0]);
    let error = unpacked([vec![7; 2048]]).unwrap_err();
    assert_eq!(error, "cannot read the layer: a header whose sum is wrong: this is no archive");
}

#[test]
fn every_compression_is_undone() {
    let layer = Layer::new().file("a", &"text ".repeat(1000)).bytes();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd =
        |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
    let read = |compression, bytes: &[u8]| {
        let mut whole = Vec::new();
        inflate(compression, bytes).read_to_end(&mut whole).map(|_| whole)
    };
    let (start, end) = layer.split_at(700);
    assert_eq!(read(Compression::None, &layer).unwrap(), layer);
    // In several parts, one behind the other.
    assert_eq!(read(Compression::Gzip, &[gzip(start), gzip(end)].concat()).unwrap(), layer);
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frames = [&zstd(start)[..], &skipped, &zstd(b""), &zstd(end), &skipped].concat();
    assert_eq!(read(Compression::Zstd, &frames).unwrap(), layer);
    for (compression, bytes) in [(Compression::Gzip, gzip(&layer)), (Compression::Zstd, zstd(&layer))] {
        assert!(read(compression, &bytes[..bytes.len() / 2]).is_err(), "{compression:?}");
        assert!(read(compression, &layer).is_err(), "{compression:?}");
    }
    assert_eq!(Compression::of("application/vnd.oci.image.layer.v1.tar+zstd"), Some(Compression::Zstd));
    assert_eq!(Compression::of("application/vnd.oci.image.layer.v1.tar+xz"), None);
}
