//! What becomes of a build: files and archives on this host, images, caches, and what is shown of it meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{
    JobCache, Outcome, Workbench, behind, browse, context, docker, eventually, run, skipped, start, steps,
    terminal, until_it_is_gone, until_it_runs,
};
use serde_json::Value;
use tempfile::TempDir;

/// Everything below a directory, by its path.
fn listed(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(directory).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            }
        }
    }
    found
}

/// The paths in an archive.
fn archived(bytes: &[u8]) -> BTreeSet<String> {
    let mut archive = tar::Archive::new(bytes);
    let entries =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    entries.map(|path| path.trim_end_matches('/').to_owned()).collect()
}

/// Runs a command where this directory is a disk of its own of 1 MiB.
fn on_a_small_disk(directory: &TempDir, command: &Command) -> Outcome {
    let script = r#"mount -t tmpfs -o size=1m none "$0" && exec "$@""#;
    let directory = directory.path().to_str().unwrap();
    run(&mut behind(&["unshare", "--map-root-user", "--mount", "sh", "-c", script, directory], command))
}

/// A last stage with files of several kinds.
fn files_stage(bench: &Workbench) -> TempDir {
    let dockerfile = "RUN mkdir -p /out/dir && cd /out && uname -m > machine && ln -s machine link && \
        ln machine dir/hard && echo x > dir/program && chmod 4750 dir/program && touch -t 202001020304.05 dir/program && \
        dd if=/dev/urandom of=large bs=1M count=5 2> /dev/null\nFROM scratch\nCOPY --from=base /out /\n";
    bench.context(dockerfile, &[])
}

#[test]
fn the_last_stages_files_go_to_a_directory() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = files_stage(bench);
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("kept"), "mine").unwrap();
    fs::write(out.path().join("machine"), "old").unwrap();
    let path = out.path().to_str().unwrap();
    assert_eq!(bench.build(&["-o", path], &directory).ok(), "", "no image, so no digest");
    let wanted = ["dir", "dir/hard", "dir/program", "kept", "large", "link", "machine"].map(str::to_owned);
    assert_eq!(listed(out.path()), wanted.into());
    assert_eq!(fs::read_to_string(out.path().join("link")).unwrap(), "x86_64\n");
    assert_eq!(fs::metadata(out.path().join("large")).unwrap().len(), 5 << 20);
    let program = fs::metadata(out.path().join("dir/program")).unwrap();
    assert_eq!((program.mode() & 0o7777, program.mtime()), (0o4750, 1_577_934_245));

    // Each platform has a directory of its own.
    let several = tempfile::tempdir().unwrap();
    let output = format!("type=local,dest={}", several.path().join("new/place").display());
    bench.build(&["--platform", "linux/amd64,linux/arm/v7", "-o", &output], &directory).ok();
    let machine = |platform: &str| {
        fs::read_to_string(several.path().join("new/place").join(platform).join("machine")).unwrap()
    };
    assert_eq!((machine("linux_amd64").as_str(), machine("linux_arm_v7").as_str()), ("x86_64\n", "armv7l\n"));
}

#[test]
fn an_output_appears_whole_or_not_at_all() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = files_stage(bench);
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("machine")).unwrap();
    let refused = bench.build(&["-o", out.path().to_str().unwrap()], &directory);
    refused.refused(1, "machine\", where a directory is; move it away, or name another place");
    fs::remove_dir(out.path().join("machine")).unwrap();
    assert_eq!(
        listed(out.path()),
        BTreeSet::new(),
        "what had no place of another in its way is not there either"
    );

    // One of two outputs that cannot be written: the other is not there either.
    let out = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("type=tar,dest={}", out.path().join(name).display());
    let failing = bench.context("RUN false\n", &[]);
    bench.build(&["-o", &file("a.tar"), "-o", &file("b.tar")], &failing).refused(1, "exit code: 1");
    assert_eq!(listed(out.path()), BTreeSet::new());
    bench.build(&["-o", &file("none/a.tar")], &directory).refused(2, "none\" for the output; make it first");
    bench.build(&["-o", "type=tar,dest=/dev/full"], &directory).refused(1, "No space left on device");
    let small = tempfile::tempdir().unwrap();
    for (name, output) in [("tree", "type=local,dest="), ("image", "type=oci,tar=false,dest=")] {
        let place = small.path().join(name);
        let command = bench.command(&["-o", &format!("{output}{}", place.display())], directory.path());
        let full = on_a_small_disk(&small, &command);
        full.refused(1, "No space left on device");
    }
    let read_only = tempfile::tempdir().unwrap();
    fs::write(read_only.path().join("f"), "").unwrap();
    let below_a_file = read_only.path().join("f/out");
    bench.build(&["-o", below_a_file.to_str().unwrap()], &directory).refused(1, "cannot write ");

    // Ctrl-C, or what CI systems send, before and in the middle of the transfer.
    let slow = bench.context("RUN sleep 86403\n", &[]);
    let place = out.path().join("interrupted");
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let mut build = start(&mut bench.command(&["-o", place.to_str().unwrap()], slow.path()));
        until_it_runs(&mut build, bench.instance, "sleep 86403");
        build.signal(signal);
        assert_eq!(build.outcome().status, status);
        assert!(!place.exists());
        until_it_is_gone(bench.instance, "sleep 86403");
    }
    // More than an emulated machine can send before the signal comes.
    let large = bench.context("RUN truncate -s 64G /large\n", &[]);
    for (name, output, signal, status) in
        [("tree", "type=local,dest=", "INT", 130), ("file", "type=tar,dest=", "TERM", 143)]
    {
        let place = out.path().join(name);
        let mut build =
            start(&mut bench.command(&["-o", &format!("{output}{}", place.display())], large.path()));
        eventually("the output is on its way", 300, || {
            assert!(build.is_running(), "the build has ended");
            let staged = listed(out.path()).into_iter().find(|path| path.contains(".mvm-output-"));
            staged.map(drop).ok_or_else(|| "nothing has come".to_owned())
        });
        build.signal(signal);
        let outcome = build.outcome();
        assert_eq!(outcome.status, status, "{outcome}");
        assert_eq!(listed(out.path()), BTreeSet::new(), "{outcome}");
    }
}

/// What a command writes to standard output, byte for byte.
fn bytes_of(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn archives_go_to_files_and_to_standard_output() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = files_stage(bench);
    let wanted = ["dir", "dir/hard", "dir/program", "large", "link", "machine"].map(str::to_owned);
    assert_eq!(
        archived(&bytes_of(&mut bench.command(&["-o", "-"], directory.path()))),
        wanted.clone().into()
    );
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let to = |kind: &str, name: &str| format!("type={kind},dest={}", at(name).display());
    let image = bench.registry.image("several:1");
    let metadata = at("metadata.json");
    let printed = bench.build(
        &[
            "-t",
            &image,
            "--metadata-file",
            metadata.to_str().unwrap(),
            "--iidfile",
            at("id").to_str().unwrap(),
            "-o",
            &to("tar", "files.tar"),
            "-o",
            &to("oci", "oci.tar"),
            "-o",
            &to("docker", "docker.tar"),
            "-o",
            at("files").to_str().unwrap(),
            "--push",
        ],
        &directory,
    );
    let digest = printed.ok();
    assert_eq!(archived(&fs::read(at("files.tar")).unwrap()), wanted.into());
    assert_eq!(fs::metadata(at("files.tar")).unwrap().mode() & 0o777, 0o644, "as any new file here");
    assert!(at("files/machine").exists());
    let oci = archived(&fs::read(at("oci.tar")).unwrap());
    assert!(oci.contains("index.json") && oci.contains("oci-layout"), "{oci:?}");
    assert!(archived(&fs::read(at("docker.tar")).unwrap()).contains("manifest.json"));
    assert!(bench.registry.blob(digest.trim()).exists(), "it is pushed as well");
    let said: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(said["containerimage.digest"], digest.trim());
    assert_eq!(said["containerimage.descriptor"]["digest"], digest.trim(), "a descriptor is JSON: {said}");
    assert!(said["buildx.build.ref"].as_str().is_some_and(|name| name.split('/').count() == 3), "{said}");

    // Of one platform and of several it is what buildx writes.
    for platforms in ["linux/amd64", "linux/amd64,linux/arm64"] {
        let id = |mut client: Command| {
            let options = ["--provenance=false", "--platform", platforms, "--iidfile"];
            run(client.args(options).arg(at("id")).arg(directory.path())).ok();
            fs::read_to_string(at("id")).unwrap()
        };
        let (mut ours, mut theirs) = (bench.instance.command(), docker(&bench.instance.docker_socket()));
        ours.arg("build");
        theirs.args(["buildx", "build"]);
        let ours = id(ours);
        assert!(ours.starts_with("sha256:") && ours.len() == 71, "{ours}");
        assert_eq!(ours, id(theirs), "{platforms}");
    }

    // What stays in the cache alone is no output; an image in the store and files beside it are two.
    assert_eq!(bench.build(&["-o", "type=cacheonly"], &directory).ok(), "");
    let loaded = bench.build(&["-t", "loaded:1", "--load", "-o", at("again").to_str().unwrap()], &directory);
    assert!(loaded.ok().starts_with("sha256:"));
    assert!(at("again/machine").exists());
    assert!(bench.instance.mvm(&["exec", "true"]).status == 0);
}

fn cached(outcome: &Outcome) -> Vec<bool> {
    steps(&outcome.stderr).into_iter().map(|(_, cached)| cached).collect()
}

#[test]
fn what_was_built_is_kept_elsewhere_and_used_again() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = bench.context("RUN cat /proc/uptime > /kept-elsewhere\nRUN echo two > /two\n", &[]);
    let place = tempfile::tempdir().unwrap();
    let local = place.path().join("cache").display().to_string();
    let reference = bench.registry.image("cache:1");
    let inline = bench.registry.image("inline:1");
    let build = |arguments: &[&str]| {
        let outcome = bench.build(&[&["--progress", "plain"], arguments].concat(), &directory);
        assert_eq!(outcome.status, 0, "{outcome}");
        outcome
    };
    let first = build(&[
        "--cache-from",
        &format!("type=local,src={local}"),
        "--cache-to",
        &format!("type=local,dest={local},mode=max"),
        "--cache-to",
        &format!("type=registry,ref={reference}"),
    ]);
    assert!(first.stderr.contains("note: there is no cache in "), "{first}");
    assert_eq!(cached(&first), [false, false], "{first}");
    build(&["-t", &inline, "--push", "--cache-to", "type=inline"]);
    for from in [format!("type=local,src={local}"), format!("type=registry,ref={reference}"), inline.clone()]
    {
        bench.forget();
        let again = build(&["--cache-from", &from]);
        assert_eq!(cached(&again), [true, true], "from {from}: {again}");
        assert_eq!(again.stdout, first.stdout, "from {from}");
    }
    bench.forget();
    assert_eq!(cached(&build(&[])), [false, false]);
    // It is an image layout, whole, with nothing left over.
    let index: Value = serde_json::from_slice(&fs::read(format!("{local}/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "latest");
    let names = fs::read_dir(&local).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        ["blobs", "index.json", "oci-layout"].map(str::to_owned).into()
    );
}

#[test]
fn what_was_built_is_kept_where_githubs_jobs_do() {
    if skipped("build-outputs") {
        return;
    }
    let (bench, cache) = (Workbench::open(), JobCache::open());
    let directory = bench.context("RUN cat /proc/uptime > /kept\nFROM base\nCOPY --from=base /kept /\n", &[]);
    let build = |option: &str, kind: &str| {
        // An address on the command line is one that the builder reaches.
        let address = format!("CACHE=127.0.0.1:{}/cache", cache.port);
        let words = ["--progress", "plain", option, kind, "--build-arg", &address];
        let mut command = bench.command(&words, directory.path());
        let outcome = run(command.env_remove("ACTIONS_CACHE_SERVICE_V2").envs(cache.environment()));
        assert_eq!(outcome.status, 0, "{outcome}");
        outcome
    };
    let first = build("--cache-to", "type=gha,mode=max,scope=test");
    assert!(cache.keys().iter().any(|key| key.starts_with("index-test")), "{:?} {first}", cache.keys());
    bench.forget();
    let again = build("--cache-from", "type=gha,scope=test");
    assert!(cached(&again).iter().all(|is_cached| *is_cached), "{again}");
    assert_eq!(again.stdout, first.stdout);
    bench.forget();
    assert!(cached(&build("--cache-from", "type=gha,scope=another")).contains(&false));
}

/// Runs a command whose standard error is a terminal of this size; what it wrote there.
fn on_terminal(command: &mut Command, rows: u16, columns: u16) -> (i32, String) {
    let (main, terminal) = terminal(rows, columns);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    // The last writer's end is an error here.
    command.stderr(Stdio::null());
    let mut written = Vec::new();
    let _ = fs::File::from(main).read_to_end(&mut written);
    (child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&written).into_owned())
}

#[test]
fn progress_is_drawn_on_a_terminal_and_reported_to_programs() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let context = |pause: u32| {
        let script = format!("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.2; done; sleep {pause}");
        bench.context(&format!("RUN {script}\nRUN echo last\n"), &[])
    };
    // Long enough for its last line to be drawn, whoever is put aside.
    let directory = context(30);
    let mut command = bench.command(&["--no-cache"], directory.path());
    let (status, written) = on_terminal(command.env_remove("BUILDKIT_PROGRESS"), 30, 70);
    assert_eq!(status, 0, "{written}");
    assert!(written.contains(" => => # line 9") && written.contains("[+] Building "), "{written}");
    // At the end all steps stay, and nothing of their output.
    let end = console::strip_ansi_codes(written.rsplit("[+] Building ").next().unwrap()).into_owned();
    assert!(
        end.contains(" FINISHED") && end.contains("] RUN for i in 1") && end.contains("] RUN echo last"),
        "{end}"
    );
    assert!(!end.contains("# line"), "{end}");
    assert!(end.lines().all(|line| line.trim_end_matches('\r').chars().count() <= 70), "{end}");

    let directory = context(0);
    let mut command = bench.command(&["--no-cache"], directory.path());
    let (status, written) = on_terminal(command.env("BUILDKIT_PROGRESS", "plain"), 30, 70);
    assert!(status == 0 && written.contains(" line 9") && !written.contains("[+] Building"), "{written}");

    let mut command = bench.command(&["--no-cache"], directory.path());
    let outcome = run(command.env("BUILDKIT_PROGRESS", "rawjson"));
    let reports: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> =
        reports.iter().flat_map(|report| report["vertexes"].as_array().into_iter().flatten()).collect();
    assert!(
        names.iter().any(|vertex| vertex["name"].as_str().unwrap().contains("RUN echo last")),
        "{outcome}"
    );
    assert!(names.iter().any(|vertex| vertex["completed"].is_string()), "{outcome}");
    assert!(bench.build(&["--progress", "fancy"], &directory).status == 2);
}

#[test]
fn what_a_linter_would_say_is_said_at_the_end() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = format!("FROM {} as base\nMAINTAINER nobody\nRUN true\n", bench.base.image);
    let directory = context(&[("Dockerfile", &dockerfile)]);
    let outcome = bench.build(&["--progress", "plain"], &directory);
    let end = outcome.stderr.split("2 warnings found:\n").nth(1).unwrap_or_else(|| panic!("{outcome}"));
    assert!(end.contains(" - FromAsCasing: ") && end.contains(" (line 1); see https://"), "{outcome}");
    assert!(end.contains(" - MaintainerDeprecated: ") && end.matches(" (line 2)").count() == 1, "{outcome}");

    // And in the metadata file as buildx writes it.
    let file = directory.path().join("metadata.json");
    let found = |mut client: Command| {
        client.arg("--metadata-file").arg(&file).arg(directory.path()).env("BUILDX_METADATA_WARNINGS", "1");
        run(&mut client).ok();
        let said: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut found = said["buildx.build.warnings"].as_array().unwrap().clone();
        // The step is the reading of the Dockerfile, which is another in each session.
        found.iter_mut().for_each(|warning| drop(warning.as_object_mut().unwrap().remove("vertex")));
        found.sort_by_key(Value::to_string);
        found
    };
    let (mut ours, mut theirs) = (bench.instance.command(), docker(&bench.instance.docker_socket()));
    ours.arg("build");
    theirs.args(["buildx", "build"]);
    let ours = found(ours);
    assert_eq!(ours.len(), 2);
    assert_eq!(ours, found(theirs));
}

#[test]
fn a_dockerfile_is_asked_instead_of_built() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = "# What it says\nARG WHO=nobody\nRUN echo $WHO\nFROM base AS last\nRUN false\n";
    let directory = bench.context(dockerfile, &[]);
    let ask = |arguments: &[&str]| bench.build(arguments, &directory);
    let remembered = || bench.instance.mvm(&["history", "ls", "--format", "{{.Ref}}"]).ok();
    let before = remembered();
    assert_eq!(ask(&["--check"]).ok(), "Check complete, no warnings found.\n");
    let said = tempfile::NamedTempFile::new().unwrap();
    let idle = ask(&["--check", "--push", "-t", "x", "--metadata-file", said.path().to_str().unwrap()]);
    assert!(idle.stderr.contains("nothing is built, so there is nothing for --push to do"), "{idle}");
    assert_eq!(idle.status, 0, "{idle}");
    let said: Value = serde_json::from_str(&fs::read_to_string(said.path()).unwrap()).unwrap();
    assert!(said["buildx.build.ref"].is_string() && said["result.json"].is_string(), "{said}");
    assert_eq!(remembered(), before, "a question is no build");
    let outline = ask(&["--call", "outline", "--target", "base"]).ok();
    assert!(outline.contains("WHO") && outline.contains("nobody"), "{outline}");
    let targets: Value = serde_json::from_str(&ask(&["--call", "targets,format=json"]).ok()).unwrap();
    let names: Vec<_> = targets["targets"].as_array().unwrap().iter().map(|target| &target["name"]).collect();
    assert_eq!(names, ["base", "last"]);
    let bad = format!("FROM {} as base\nMAINTAINER nobody\n", bench.base.image);
    let bad = context(&[("Dockerfile", &bad)]);
    let checked = bench.build(&["--call", "check"], &bad);
    assert!(checked.status == 1 && checked.stdout.contains("FromAsCasing"), "{checked}");
    assert_eq!(bench.build(&["--call", "check,ignorestatus=true"], &bad).status, 0);
    assert!(bench.build(&["--call", "build"], &bad).ok().starts_with("sha256:"));
    let broken = context(&[("Dockerfile", "FROM x\nFLY away\n")]);
    let checked = bench.build(&["--check"], &broken);
    assert!(
        checked.status == 1 && checked.stdout.contains("ERROR: ") && checked.stdout.contains("FLY"),
        "{checked}"
    );
}

#[test]
fn a_timeline_is_a_page_that_a_browser_shows() {
    if skipped("build-outputs") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = "RUN echo '<b>markup</b>' && sleep 1\nRUN sleep 1; uname -m > /machine\nCOPY . /data/\n";
    let directory = bench.context(dockerfile, &[("a", &"x".repeat(100_000))]);
    let out = tempfile::tempdir().unwrap();
    let (page, data) = (out.path().join("t.html"), out.path().join("t.json"));
    let image = bench.registry.image("timeline:1");
    let build = |arguments: &[&str], file: &Path| {
        let platforms = ["--platform", "linux/amd64,linux/arm64", "-t", &image, "--push", "--timeline"];
        bench.build(&[&platforms[..], &[file.to_str().unwrap()], arguments].concat(), &directory)
    };
    let built = build(&["--no-cache", "--progress", "rawjson"], &page);
    assert_eq!(built.status, 0, "{built}");
    let reports = built.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = reports.flat_map(|report| report["vertexes"].as_array().cloned().unwrap_or_default());
    let steps: BTreeSet<_> = steps.map(|step| step["digest"].as_str().unwrap().to_owned()).collect();
    let seen = browse(
        &page,
        "const bars = [...document.querySelectorAll('.step')].map(row => ({
            name: row.querySelector('.name').textContent, bars: row.querySelectorAll('b').length,
            kind: row.querySelector('b').className, width: row.querySelector('b').getBoundingClientRect().width }));
        const edges = [...document.querySelectorAll('body *')].map(element => element.getBoundingClientRect());
        return { bars, width: Math.max(document.documentElement.scrollWidth, ...edges.map(edge => edge.right)),
            left: Math.min(...edges.map(edge => edge.left)), titles: [...document.querySelectorAll('h2')].map(h => h.textContent),
            summary: document.querySelector('.summary').textContent };",
    );
    let bars = seen["bars"].as_array().unwrap();
    assert_eq!(bars.len(), steps.len(), "a bar for every step: {seen}");
    assert!(bars.iter().all(|row| row["bars"] == 1 && row["width"].as_f64().unwrap() >= 2.0), "{seen}");
    assert!(seen["width"].as_f64().unwrap() <= 1280.0 && seen["left"].as_f64().unwrap() >= 0.0, "{seen}");
    let has = |kind: &str, name: &str| {
        bars.iter().any(|row| row["kind"] == kind && row["name"].as_str().unwrap().contains(name))
    };
    assert!(has("emulated", "2/4] RUN echo '<b>markup</b>'"), "{seen}");
    assert!(
        has("native", "2/4] RUN echo '<b>markup</b>'") && has("transfer", "load build context"),
        "{seen}"
    );
    assert!(has("export", "exporting to image"), "{seen}");
    assert_eq!(seen["titles"], serde_json::json!(["the whole build", "linux/amd64", "linux/arm64"]));
    assert!(seen["summary"].as_str().unwrap().contains("run by an emulator: "), "{seen}");

    build(&[], &data).ok();
    let timeline: Value = serde_json::from_slice(&fs::read(&data).unwrap()).unwrap();
    let rows = timeline["steps"].as_array().unwrap();
    let cached = rows.iter().filter(|row| row["kind"] == "cached").count();
    assert!(cached >= 6, "{timeline}");
    let long = timeline["took_ms"].as_u64().unwrap();
    assert!(rows.iter().all(|row| row["started_ms"].as_u64().unwrap() <= long), "{timeline}");
    // One of a build that fails is written too: it is what is looked at then.
    let failing = bench.context("RUN false\n", &[]);
    bench.build(&["--timeline", page.to_str().unwrap()], &failing).refused(1, "exit code: 1");
    assert!(fs::read_to_string(&page).unwrap().contains("class=\"failed\""));
    bench
        .build(&["--timeline", "x.txt"], &failing)
        .refused(2, "should end in .html for a page, or in .json for data");
}
