//! The file system of the root, with odd files in it: what Linux reads in a machine, and what erofs-utils unpack on the host, is
//! what was put in. Extended attributes are looked at by the latter only.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Instance, Options, TOP, layout_of, run, skipped, unpacked};
use tar::{EntryType, Header};

const IMAGE: &str = "test/odd:1";
/// Where all of it lies in the root.
const PLACE: &str = "odd";
/// Around what is stored in another way: beside an inode, in one block, in one extent.
const SIZES: [usize; 22] = [
    0, 1, 11, 100, 4_000, 4_031, 4_063, 4_064, 4_065, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 12_289,
    65_535, 65_536, 65_537, 524_287, 524_289, 1_200_001,
];
const PATCHWORKS: usize = 100;
const NAMES: usize = 900;
const LONG_NAMES: usize = 40;
const DEPTH: usize = 40;
/// How much of each file's end is read before anything else of it.
const END: usize = 5_000;

/// Something in the root.
struct Odd {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    device: (u32, u32),
    /// A file's, or what a link leads to.
    contents: Vec<u8>,
    xattrs: Vec<(&'static str, Vec<u8>)>,
}

impl Odd {
    fn new(kind: EntryType, mode: u32, contents: impl Into<Vec<u8>>) -> Self {
        Self { kind, mode, owner: (0, 0), device: (0, 0), contents: contents.into(), xattrs: Vec::new() }
    }

    fn file(contents: impl Into<Vec<u8>>) -> Self {
        Self::new(EntryType::Regular, 0o644, contents)
    }

    fn directory() -> Self {
        Self::new(EntryType::Directory, 0o755, [])
    }

    /// As `stat -c '%f %u %g %s %t:%T'` has it; of directories, the size is the file system's own affair.
    fn stat(&self) -> String {
        let kind = match self.kind {
            EntryType::Directory => 0o040_000,
            EntryType::Symlink => 0o120_000,
            EntryType::Char => 0o020_000,
            EntryType::Block => 0o060_000,
            EntryType::Fifo => 0o010_000,
            _ => 0o100_000,
        };
        let size =
            if self.kind == EntryType::Directory { "-".to_owned() } else { self.contents.len().to_string() };
        let ((user, group), (major, minor)) = (self.owner, self.device);
        format!("{:x} {user} {group} {size} {major:x}:{minor:x}", kind | self.mode)
    }
}

/// Numbers that look like chance, and are the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % end
    }

    fn noise(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    /// Parts that nothing compresses, beside parts that are nearly nothing.
    fn patchwork(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let most = if self.next().is_multiple_of(3) { 90_000 } else { 6_000 };
            let size = 1 + self.below(most);
            match self.next() % 3 {
                0 => bytes.extend(self.noise(size)),
                1 => bytes.resize(bytes.len() + size, 0),
                _ => bytes.extend(text(size)),
            }
        }
        bytes.truncate(count);
        bytes
    }
}

fn text(count: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= count {
            break;
        }
        writeln!(text, "line {number} of a text").unwrap();
    }
    text.truncate(count);
    text.into_bytes()
}

/// Everything, by its path below [`PLACE`].
fn everything() -> BTreeMap<String, Odd> {
    let mut chance = Chance(0x5eed_5eed_5eed_5eed);
    let mut all = BTreeMap::new();
    for directory in ["sizes", "patches", "names", "long", "empty", "owners"] {
        all.insert(directory.to_owned(), Odd::directory());
    }
    for size in SIZES {
        all.insert(format!("sizes/noise-{size}"), Odd::file(chance.noise(size)));
        all.insert(format!("sizes/zeros-{size}"), Odd::file(vec![0; size]));
        all.insert(format!("sizes/text-{size}"), Odd::file(text(size)));
        all.insert(format!("sizes/patches-{size}"), Odd::file(chance.patchwork(size)));
    }
    // What is left of each does not compress; of the second, it is a whole block that begins within one.
    for count in [63_000, 69_254] {
        let contents = [vec![7; 30_000], chance.noise(count)].concat();
        all.insert(format!("sizes/end-{count}"), Odd::file(contents));
    }
    for number in 0..PATCHWORKS {
        let size = chance.below(400_000);
        all.insert(format!("patches/{number}"), Odd::file(chance.patchwork(size)));
    }
    for number in 0..NAMES {
        let name = "n".repeat(number % 60);
        all.insert(format!("names/{number}-{name}"), Odd::file(format!("{number}")));
    }
    for number in 0..LONG_NAMES {
        let name = format!("{number}-");
        all.insert(format!("long/{name}{}", "x".repeat(255 - name.len())), Odd::directory());
    }
    for name in ["!first", "-", "~last", "with a blank", "ümläut", "a\\b"] {
        all.insert(name.to_owned(), Odd::file(name));
    }
    let mut deep = "deep".to_owned();
    for _ in 0..DEPTH {
        all.insert(deep.clone(), Odd::directory());
        deep.push_str("/d");
    }
    for (name, target) in
        [("near", "sizes/text-100"), ("nowhere", "../../../none"), ("far", &"t/".repeat(2_047))]
    {
        all.insert(format!("link-{name}"), Odd::new(EntryType::Symlink, 0o777, target));
    }
    for (name, kind, device) in [
        ("null", EntryType::Char, (1, 3)),
        ("large", EntryType::Block, (0xfff, 0xf_ffff)),
        ("minor", EntryType::Char, (10, 0x100)),
        ("fifo", EntryType::Fifo, (0, 0)),
    ] {
        all.insert(format!("owners/{name}"), Odd { device, ..Odd::new(kind, 0o620, []) });
    }
    let owned = |owner, mode, odd: Odd| Odd { owner, mode, ..odd };
    all.insert("owners/user".into(), owned((1_000, 100), 0o4755, Odd::file("x")));
    all.insert("owners/large-user".into(), owned((70_000, 4_000_000_000), 0o600, Odd::file(text(9_000))));
    all.insert("owners/sticky".into(), owned((0, 65_536), 0o1777, Odd::directory()));
    let xattrs = |count: usize, size: usize| {
        const NAMES: [&str; 6] = ["user.a", "user.b", "user.c", "user.with\nline", "trusted.t", "user.last"];
        NAMES.into_iter().take(count).map(|name| (name, text(size))).collect()
    };
    for (name, odd) in [
        ("few", Odd { xattrs: xattrs(2, 10), ..Odd::file("few") }),
        ("many", Odd { xattrs: xattrs(6, 500), ..Odd::file(text(100)) }),
        // The same contents once beside the inode, and once in a block.
        ("none-4000", Odd::file(text(4_000))),
        ("some-4000", Odd { xattrs: xattrs(2, 40), ..Odd::file(text(4_000)) }),
        ("packed", Odd { xattrs: xattrs(5, 33), ..Odd::file(chance.patchwork(50_000)) }),
        ("directory", Odd { xattrs: xattrs(1, 2_000), ..Odd::directory() }),
    ] {
        all.insert(format!("attributes-{name}"), odd);
    }
    all
}

fn layer(all: &BTreeMap<String, Odd>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir(PLACE, TOP).unwrap();
    for (path, odd) in all {
        let names: Vec<_> = odd.xattrs.iter().map(|(name, _)| format!("SCHILY.xattr.{name}")).collect();
        let values = odd.xattrs.iter().map(|(_, value)| value.as_slice());
        builder.append_pax_extensions(names.iter().map(String::as_str).zip(values)).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(odd.kind);
        header.set_mode(odd.mode);
        header.set_uid(odd.owner.0);
        header.set_gid(odd.owner.1);
        header.set_device_major(odd.device.0).unwrap();
        header.set_device_minor(odd.device.1).unwrap();
        header.set_size(0);
        let path = format!("{PLACE}/{path}");
        if odd.kind == EntryType::Symlink {
            let target = std::str::from_utf8(&odd.contents).unwrap();
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(odd.contents.len() as u64);
            builder.append_data(&mut header, path, odd.contents.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn odd_files_are_what_they_were() {
    if skipped("erofs") {
        return;
    }
    let all = everything();
    let instance = Instance::prepared("odd-root");
    let image = layout_of(IMAGE, &json!({}), &[layer(&all)]);
    instance.mvm(&["image", "import", image.path().to_str().unwrap()]).ok();
    let directory = tempfile::tempdir().unwrap();
    let more = directory.path().join("odd.yml");
    fs::write(&more, json!({"init": [IMAGE]}).to_string()).unwrap();
    let own = format!("{TOP}/linuxkit.yml");
    let build = ["image", "build", "--name", "test-odd", &own, more.to_str().unwrap()];
    instance.mvm(&build).ok();

    let root = root_of(&instance, "test-odd");
    unpacks_to(&root, &directory.path().join("unpacked"), &all);
    let machine = Instance::up_with("odd-root-up", &Options::up(&["--image", "test-odd"]));
    is_read_by_linux(&machine, &all);
}

/// The file of an appliance's root.
fn root_of(instance: &Instance, name: &str) -> PathBuf {
    let shown: Value = serde_json::from_str(&instance.mvm(&["image", "inspect", name]).ok()).unwrap();
    let layers = shown["manifest"]["layers"].as_array().unwrap();
    let is_root = |layer: &&Value| layer["mediaType"].as_str().unwrap().contains(".root.");
    let digest = layers.iter().find(is_root).unwrap()["digest"].as_str().unwrap();
    Instance::data().join("mvm/images/blobs").join(digest.replacen(':', "/", 1))
}

fn unpacks_to(image: &Path, to: &Path, all: &BTreeMap<String, Odd>) {
    let fsck = unpacked("erofs").command;
    let extract = format!("--extract={}", to.display());
    run(Command::new(&fsck[0]).args(&fsck[1..]).args([&extract, "--preserve", "--xattrs"]).arg(image)).ok();
    let mut wrong = String::new();
    for (path, odd) in all {
        let there = to.join(PLACE).join(path);
        let is = fs::symlink_metadata(&there).unwrap_or_else(|error| panic!("{path}: {error}"));
        let size = if is.is_dir() { "-".to_owned() } else { is.len().to_string() };
        let device = (rustix::fs::major(is.rdev()), rustix::fs::minor(is.rdev()));
        let stat = format!("{:x} {} {} {size} {:x}:{:x}", is.mode(), is.uid(), is.gid(), device.0, device.1);
        if stat != odd.stat() {
            writeln!(wrong, "{path}: {stat}, not {}", odd.stat()).unwrap();
        }
        let contents = match odd.kind {
            EntryType::Regular => fs::read(&there).unwrap(),
            EntryType::Symlink => fs::read_link(&there).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        if contents != odd.contents {
            writeln!(wrong, "{path}: other contents").unwrap();
        }
        for (name, value) in &odd.xattrs {
            let mut found = vec![0; value.len() + 1];
            let count = rustix::fs::lgetxattr(&there, *name, &mut found).map_err(|error| error.to_string());
            if count.as_ref().map(|count| &found[..*count]) != Ok(value) {
                writeln!(wrong, "{path}: {name:?} is {count:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn is_read_by_linux(machine: &Instance, all: &BTreeMap<String, Odd>) {
    let said = |script: &str| {
        let script = format!("cd /{PLACE} && echo 3 > /proc/sys/vm/drop_caches && {script}");
        let lines = machine.mvm(&["exec", "sh", "-c", &script]).ok();
        let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        lines
    };
    let expect = |what: &str, seen: Vec<String>, expected: Vec<String>| {
        let seen: std::collections::BTreeSet<_> = seen.into_iter().collect();
        let expected: std::collections::BTreeSet<_> = expected.into_iter().collect();
        let difference: Vec<_> = seen.symmetric_difference(&expected).take(20).collect();
        assert!(difference.is_empty(), "{what}: {difference:#?}");
    };
    let files = || all.iter().filter(|(_, odd)| odd.kind == EntryType::Regular);
    // The end first: what lies before it is not in memory then.
    let end = |odd: &Odd| odd.contents[odd.contents.len().saturating_sub(END)..].to_vec();
    let ends = format!(
        "find . -type f -exec sh -c 'for f; do echo $(tail -c {END} \"$f\" | sha256sum) \"$f\"; done' x {{}} +"
    );
    let expected = files().map(|(path, odd)| format!("{} - ./{path}", sum(&end(odd)))).collect();
    expect("the ends of files", said(&ends), expected);
    let expected = files().map(|(path, odd)| format!("{}  ./{path}", sum(&odd.contents))).collect();
    expect("contents", said("find . -type f -exec sha256sum {} +"), expected);
    let stat = "stat -c \"%n %f %u %g %s %t:%T\" {}";
    let of_others = said(&format!("find . -mindepth 1 ! -type d -exec {stat} +"));
    let no_directory = |odd: &Odd| odd.kind != EntryType::Directory;
    let described = |path: &str, odd: &Odd| format!("./{path} {}", odd.stat());
    let others = all.iter().filter(|(_, odd)| no_directory(odd));
    expect("what is no directory", of_others, others.map(|(path, odd)| described(path, odd)).collect());
    let directories = said("find . -mindepth 1 -type d -exec stat -c \"%n %f %u %g - %t:%T\" {} +");
    let expected = all.iter().filter(|(_, odd)| !no_directory(odd));
    expect("directories", directories, expected.map(|(path, odd)| described(path, odd)).collect());
    let links = all.iter().filter(|(_, odd)| odd.kind == EntryType::Symlink);
    let expected = links.map(|(_, odd)| String::from_utf8(odd.contents.clone()).unwrap()).collect();
    expect("links", said("find . -type l -exec readlink {} \\;"), expected);
    assert_eq!(said("stat -c %h empty deep . | tr \"\\n\" \" \"")[0].trim(), "2 3 10");
}
