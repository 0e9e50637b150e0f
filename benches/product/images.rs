//! What the image builder takes: time from warm caches, and memory however large the layers are.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::measured::run;
use crate::report::Figure;
use crate::support::{Appliance, Instance, TOP, layout_of};

const RUNS: usize = 5;
const COLD_RUNS: usize = 3;
/// Of the large image's one layer.
const LAYER_FILES: usize = 512;
const FILE_BYTES: usize = 1 << 20;

struct Bench {
    instance: Instance,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        Appliance::built();
        Self {
            instance: Instance::prepared("bench-images"),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("a definition is written");
        path.display().to_string()
    }

    fn mvm(&self, arguments: &[&str]) -> Command {
        let mut command = self.instance.command();
        command.args(arguments);
        command
    }
}

pub(crate) fn measure() -> Vec<Figure> {
    let bench = Bench::new();
    let own = format!("{TOP}/linuxkit.yml");
    let more = |number: usize| format!("files: [{{path: etc/bench, contents: '{number}'}}]\n");
    let build = |number: usize| {
        let more = bench.file("more.yml", &more(number));
        run(bench.mvm(&["image", "build", "--name", "bench", &own, &more]))
    };
    // What is only done once is done.
    build(0);
    let (warm, memory): (Vec<_>, Vec<_>) = (1..=RUNS).map(build).unzip();
    let (same, _): (Vec<_>, Vec<_>) = (0..RUNS).map(|_| build(RUNS)).unzip();
    let (cold, cold_memory): (Vec<_>, Vec<_>) = (1..=COLD_RUNS)
        .map(|number| {
            let cache = without_pieces();
            let more = bench.file("more.yml", &more(RUNS + number));
            let mut build = bench.mvm(&["image", "build", "--name", "bench", &own, &more]);
            build.env("XDG_CACHE_HOME", cache.path());
            run(build)
        })
        .unzip();
    let (unpack, large) = unpack(&bench);
    vec![
        Figure::new("image-build-warm", "s", &warm),
        Figure::new("image-build-same", "s", &same),
        Figure::new("image-build-memory", "MiB", &memory),
        Figure::new("image-build-cold", "s", &cold),
        Figure::new("image-build-cold-memory", "MiB", &cold_memory),
        Figure::new("image-unpack", "MB/s", &unpack),
        Figure::new("image-unpack-memory", "MiB", &large),
    ]
}

/// A cache that has packages and kernels, and nothing that a build has unpacked.
fn without_pieces() -> TempDir {
    let cache = tempfile::tempdir_in(Instance::cache()).expect("a directory for a cache");
    fs::create_dir(cache.path().join("mvm")).expect("mvm's cache");
    for name in ["packages", "kernels"] {
        symlink(Instance::cache().join("mvm").join(name), cache.path().join("mvm").join(name))
            .expect("what is fetched and compiled is there");
    }
    cache
}

/// An image of one layer of 512 MiB, put into a root that is not made into an image: MB a second, and memory.
fn unpack(bench: &Bench) -> (Vec<f64>, Vec<f64>) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut contents = vec![0; FILE_BYTES];
    for number in 0..LAYER_FILES {
        // Each is another: what is the same is kept once.
        contents[..8].copy_from_slice(&number.to_le_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE_BYTES as u64);
        header.set_mode(0o644);
        layer
            .append_data(&mut header, format!("data/{number}"), contents.as_slice())
            .expect("a file is packed");
    }
    let image = layout_of("bench/large:1", &json!({}), &[layer.into_inner().expect("the layer is finished")]);
    let path = image.path().display().to_string();
    run(bench.mvm(&["image", "import", &path]));
    let text = "kernel: {image: mvm/kernel}\ninit: [mvm/init, 'bench/large:1']\n";
    let definition = bench.file("large.yml", text);
    let megabytes = (LAYER_FILES * FILE_BYTES) as f64 / 1e6;
    let trace = |_| run(bench.mvm(&["image", "explain", "/data/0", &definition]));
    (0..RUNS).map(trace).map(|(seconds, memory)| (megabytes / seconds, memory)).unzip()
}
