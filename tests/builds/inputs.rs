//! What a build is made from: contexts of every kind, secrets, ssh agents.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    FileServer, Keys, Outcome, Running, Sshd, Workbench, context, docker, eventually, free_port, run,
    run_with_input, skipped, start,
};

const COPY: &str = "COPY . /data/\n";

/// An archive of these files.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn with_input(bench: &Workbench, arguments: &[&str], context: &str, input: &[u8]) -> Outcome {
    run_with_input(&mut bench.command(arguments, Path::new(context)), input)
}

#[test]
fn a_context_comes_through_standard_input() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let dockerfile = bench.dockerfile(COPY);
    let large = "0123456789".repeat(300_000);
    let archive = tar(&[("sub/D", &dockerfile), ("a", "archive\n"), ("large", &large)]);
    with_input(bench, &["-t", "stdin:1", "-f", "sub/D"], "-", &archive).ok();
    assert_eq!(bench.run("stdin:1", "cat /data/a; wc -c < /data/large"), "archive\n3000000\n");

    let compressed = run_with_input(Command::new("gzip").arg("--stdout"), b"");
    assert_eq!(compressed.status, 0, "gzip is there");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.tar");
    fs::write(&file, tar(&[("Dockerfile", &dockerfile), ("a", "compressed\n")])).unwrap();
    run(Command::new("gzip").arg(&file)).ok();
    let archive = fs::read(directory.path().join("c.tar.gz")).unwrap();
    with_input(bench, &["-t", "stdin:2"], "-", &archive).ok();
    assert_eq!(bench.run("stdin:2", "cat /data/a"), "compressed\n");

    // A Dockerfile alone has an empty context.
    let alone = bench.dockerfile("COPY . /data/\nRUN ls -A /data > /seen; echo alone >> /seen\n");
    with_input(bench, &["-t", "stdin:3"], "-", alone.as_bytes()).ok();
    assert_eq!(bench.run("stdin:3", "cat /seen"), "alone\n");
    let directory = context(&[("a", "directory\n")]);
    let path = directory.path().to_str().unwrap();
    with_input(bench, &["-t", "stdin:4", "-f", "-"], path, dockerfile.as_bytes()).ok();
    assert_eq!(bench.run("stdin:4", "cat /data/a"), "directory\n");

    with_input(bench, &[], "-", b"").refused(2, "there is nothing on standard input");
    with_input(bench, &["-f", "-"], "-", b"x").refused(2, "`-` is the context, and `-f -` the Dockerfile");
}

fn git(repository: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments);
    run(&mut command).ok()
}

/// A directory with the repository `r.git`, whose directory `sub` is a context: tagged `v1` with one text, on `main` with another.
fn repository(bench: &Workbench) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("r.git");
    let git = |arguments: &[&str]| git(&repository, arguments);
    fs::create_dir_all(repository.join("sub")).unwrap();
    git(&["init", "--quiet", "--initial-branch=main"]);
    for (name, text) in
        [("Dockerfile", "FROM scratch\n"), ("sub/Dockerfile", &bench.dockerfile(COPY)), ("sub/a", "one\n")]
    {
        fs::write(repository.join(name), text).unwrap();
    }
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["tag", "v1"]);
    fs::write(repository.join("sub/a"), "two\n").unwrap();
    git(&["commit", "--quiet", "--all", "-m", "two"]);
    directory
}

#[test]
fn what_is_built_says_which_repository_its_context_lies_in_as_with_buildx() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = repository(bench);
    let top = directory.path().join("r.git");
    let files = tempfile::tempdir().unwrap();
    // What is said of the repository in the whole provenance, and the image's digest.
    let built = |mut client: Command, variables: &[(&str, &str)], context: &Path| {
        let metadata = files.path().join("metadata.json");
        client.args(["--metadata-file", metadata.to_str().unwrap(), "--provenance=false"]).arg(context);
        client.env("SOURCE_DATE_EPOCH", "1000000000").env("BUILDX_METADATA_PROVENANCE", "max");
        let outcome = run(client.envs(variables.iter().copied()));
        assert_eq!(outcome.status, 0, "{outcome}");
        let metadata: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
        let said =
            &metadata["buildx.build.provenance"]["metadata"]["https://mobyproject.org/buildkit@v1#metadata"];
        (said["vcs"].clone(), metadata["containerimage.digest"].clone(), outcome.stderr)
    };
    let both = |variables: &[(&str, &str)], context: &Path| {
        let mut buildx = docker(&bench.instance.docker_socket());
        buildx.env("BUILDX_CONFIG", files.path()).args(["buildx", "build"]);
        let mut mvm = bench.instance.command();
        mvm.arg("build");
        let (theirs, ours) = (built(buildx, variables, context), built(mvm, variables, context));
        assert_eq!((&ours.0, &ours.1), (&theirs.0, &theirs.1), "{variables:?} {}", context.display());
        ours.0
    };
    let revision = git(&top, &["rev-parse", "HEAD"]);
    let sub = top.join("sub");
    assert_eq!(
        both(&[], &sub),
        json!({"revision": revision.trim(), "localdir:context": "sub", "localdir:dockerfile": "sub"})
    );
    git(&top, &["remote", "add", "upstream", "git@example.com:up/r.git"]);
    assert_eq!(both(&[("BUILDX_GIT_INFO", "false"), ("BUILDX_GIT_LABELS", "true")], &sub), Value::Null);
    git(&top, &["remote", "add", "origin", "https://me:secret@example.com/r.git"]);
    fs::write(sub.join("new"), "").unwrap();
    let said = both(&[("BUILDX_GIT_CHECK_DIRTY", "1"), ("BUILDX_GIT_LABELS", "full")], &sub);
    assert_eq!(said["source"], "https://example.com/r.git");
    assert_eq!(said["revision"], format!("{}-dirty", revision.trim()));

    // A label that was given is no other's.
    let mut labelled =
        bench.command(&["-t", "labelled:1", "--label", "org.opencontainers.image.source=mine"], &sub);
    run(labelled.env("BUILDX_GIT_LABELS", "1")).ok();
    let format = "{{json .Config.Labels}}";
    let labels =
        run(docker(&bench.instance.docker_socket()).args(["image", "inspect", "-f", format, "labelled:1"]));
    let wanted = json!({
        "com.docker.image.source.entrypoint": "sub/Dockerfile",
        "org.opencontainers.image.revision": revision.trim(),
        "org.opencontainers.image.source": "mine",
    });
    assert_eq!(serde_json::from_str::<Value>(&labels.ok()).unwrap(), wanted);

    // What git does not read is no reason not to build.
    fs::write(top.join(".git/config"), "[").unwrap();
    let broken = run(&mut bench.command(&["--provenance=true"], &sub));
    assert!(
        broken.stderr.contains("nothing is said of the context's repository: git: fatal: bad config"),
        "{broken}"
    );
    broken.ok();
    assert_eq!(run(&mut bench.command(&["-q"], &sub)).stderr, "");
}

#[test]
fn a_policy_says_what_a_build_is_made_from() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let directory =
        context(&[("Dockerfile", "FROM example.invalid/there/is/none:1\nRUN echo built > /made\n")]);
    let file = directory.path().join("policy.json");
    let build = |rules: &Value| {
        fs::write(&file, json!({ "rules": rules }).to_string()).unwrap();
        let mut command = bench.command(&["-t", "ruled:1"], directory.path());
        run(command.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", &file))
    };
    let selector = json!({"identifier": "docker-image://example.invalid/there/is/none:1"});
    let base = format!("docker-image://{}", bench.base.image);
    build(&json!([{"action": "CONVERT", "selector": selector, "updates": {"identifier": base}}])).ok();
    assert_eq!(bench.run("ruled:1", "cat /made"), "built\n");
    fs::write(directory.path().join("Dockerfile.rego"), "package docker\n").unwrap();
    let denied = build(&json!([{"action": "DENY", "selector": selector}]));
    denied.refused(1, "denied by policy");
    denied.refused(
        1,
        "Dockerfile.rego\" is a policy that buildx would hold the build to, and mvm does not read it",
    );
    build(&json!([{"action": "FORBID", "selector": selector}]))
        .refused(2, "is no source policy: \"FORBID\" has no");
}

/// `git daemon` for the repositories in a directory.
fn git_daemon(directory: &Path) -> (Running, u16) {
    let port = free_port();
    let mut command = Command::new("git");
    command.args(["daemon", "--listen=127.0.0.1", "--export-all", "--reuseaddr"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", directory.display())).arg(directory);
    let daemon = start(&mut command);
    eventually("git daemon listens", 120, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| error.to_string())
    });
    (daemon, port)
}

#[test]
fn a_context_is_fetched_from_git_and_from_the_web() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = repository(bench);
    let (_daemon, port) = git_daemon(directory.path());
    for (reference, name, wanted) in [("main:sub", "git:1", "two\n"), ("v1:sub", "git:2", "one\n")] {
        let address = format!("git://127.0.0.1:{port}/r.git#{reference}");
        run(&mut bench.command(&["-t", name], Path::new(&address))).ok();
        assert_eq!(bench.run(name, "cat /data/a"), wanted);
    }
    let address = format!("git://127.0.0.1:{port}/r.git#nowhere");
    run(&mut bench.command(&[], Path::new(&address))).refused(1, "nowhere");

    let server = FileServer::of(directory.path());
    let archive = tar(&[("Dockerfile", &bench.dockerfile(COPY)), ("a", "web\n")]);
    fs::write(directory.path().join("c.tar"), archive).unwrap();
    run(&mut bench.command(&["-t", "web:1"], Path::new(&server.url("c.tar")))).ok();
    assert_eq!(bench.run("web:1", "cat /data/a"), "web\n");
    run(&mut bench.command(&[], Path::new(&server.url("missing")))).refused(1, "404");

    // The Dockerfile alone, for a context of this host.
    fs::write(directory.path().join("D"), bench.dockerfile(COPY)).unwrap();
    let own = context(&[("a", "own\n")]);
    bench.build(&["-t", "web:2", "-f", &server.url("D")], &own).ok();
    assert_eq!(bench.run("web:2", "cat /data/a"), "own\n");
    bench.build(&["-f", &server.url("missing")], &own).refused(1, "missing is answered with 404 Not Found");
}

#[test]
fn a_context_is_fetched_through_ssh_with_the_users_agent() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let directory = repository(bench);
    let sshd = Sshd::serving(&[]);
    let user = run(Command::new("id").arg("-un")).ok();
    let path = directory.path().join("r.git");
    let address = format!("ssh://{}@127.0.0.1:{}{}#main:sub", user.trim(), sshd.port, path.display());
    let build =
        |agent: &Path| run(bench.command(&["-t", "git:3"], Path::new(&address)).env("SSH_AUTH_SOCK", agent));
    build(&sshd.agent()).ok();
    assert_eq!(bench.run("git:3", "cat /data/a"), "two\n");
    // Whoever may not read it is told so by the server there.
    bench.forget();
    build(&Keys::make().socket()).refused(1, "Permission denied (publickey");
}

#[test]
fn contexts_have_names() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let other = context(&[("a", "other\n"), ("ignored", ""), (".dockerignore", "ignored\n")]);
    // An image that the builder does not have, in a layout.
    let made = context(&[("Dockerfile", "FROM scratch\nCOPY a /of-layout\n"), ("a", "layout\n")]);
    let layout = tempfile::tempdir().unwrap();
    let output = format!("type=oci,tar=false,dest={}", layout.path().display());
    bench.build(&["-t", "made:7", "-o", &output], &made).ok();
    bench.forget();
    let dockerfile = "COPY --from=other . /data/\nCOPY --from=replaced /bin/busybox /replaced\nCOPY --from=layout /of-layout /\nCOPY --from=context a /main\n\
        COPY --from=mine a /mine\n";
    let directory = bench.context(dockerfile, &[("a", "main\n")]);
    let contexts = [
        format!("other={}", other.path().display()),
        format!("replaced=docker-image://{}", bench.base.image),
        format!("layout=oci-layout://{}:7", layout.path().display()),
        format!("context={}", directory.path().display()),
        format!("mine={}", directory.path().display()),
    ];
    let mut arguments = vec!["-t", "named:1"];
    for context in &contexts {
        arguments.extend(["--build-context", context]);
    }
    bench.build(&arguments, &directory).ok();
    let seen = "ls -A /data; cat /data/a /of-layout /main /mine; test -x /replaced && echo executable";
    assert_eq!(bench.run("named:1", seen), ".dockerignore\na\nother\nlayout\nmain\nmain\nexecutable\n");
}

#[test]
fn secrets_are_there_for_the_step_and_for_nothing_else() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let step = "RUN --mount=type=secret,id=file --mount=type=secret,id=TOKEN,env=TOKEN \
        --mount=type=secret,id=missing cat /run/secrets/file > /copy; echo $TOKEN >> /copy; \
        ls /run/secrets >> /copy\nRUN ls -A /run/secrets >> /copy 2>&1 || true\n";
    let directory = bench.context(step, &[]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "from a file\n").unwrap();
    let file = format!("id=file,src={}", secret.path().display());
    let mut command =
        bench.command(&["-t", "secret:1", "--secret", &file, "--secret", "id=TOKEN"], directory.path());
    run(command.env("TOKEN", "from a variable")).ok();
    let seen = bench.run("secret:1", "cat /copy");
    assert!(seen.starts_with("from a file\nfrom a variable\nfile\n"), "{seen}");
    assert!(!seen.contains("missing"), "{seen}");

    // A pipe has it only once, and nobody may be there yet to write it.
    let pipe = directory.path().join("pipe");
    run(Command::new("mkfifo").arg(&pipe)).ok();
    let written = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(written, "from a pipe\n"));
    let file = format!("id=file,src={}", pipe.display());
    bench.build(&["-t", "secret:2", "--no-cache", "--secret", &file], &directory).ok();
    writer.join().unwrap().unwrap();
    assert!(bench.run("secret:2", "cat /copy").starts_with("from a pipe\n"));

    let required = bench.context("RUN --mount=type=secret,id=needed,required=true true\n", &[]);
    bench.build(&[], &required).refused(1, "needed");
    bench
        .build(&["--secret", "id=x,src=/nowhere"], &required)
        .refused(2, "\"/nowhere\", which --secret names");
}

/// A program of this host with what it is linked with, for a root that has none of it.
fn with_libraries(program: &str, root: &Path) {
    let listed = run(Command::new("ldd").arg(program)).ok();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(fs::canonicalize(file).unwrap(), target).unwrap();
    }
}

#[test]
fn a_step_may_ask_an_ssh_agent_and_change_nothing_of_it() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    let keys = Keys::make();
    let step = "COPY root/ /\nCOPY key.pub /\nRUN --mount=type=ssh PATH=$PATH:/usr/bin; ssh-add -l > /listed && ssh-add -T /key.pub && \
        ! ssh-add -D && ! ssh-add -x < /dev/null && ssh-add -l >> /listed && echo signed >> /listed\n\
        RUN --mount=type=ssh,id=other ! test -S \"$SSH_AUTH_SOCK\" && echo none >> /listed\n";
    let directory = bench.context(step, &[]);
    with_libraries("/usr/bin/ssh-add", &directory.path().join("root"));
    let public = keys.key().with_extension("pub");
    fs::copy(&public, directory.path().join("key.pub")).unwrap();
    let fingerprint = keys.ask(&["-l"]);
    let wanted = format!("{fingerprint}{fingerprint}signed\nnone\n");
    // As the user's own agent, at a socket, and as a key in a file.
    let mut command = bench.command(&["-t", "ssh:1", "--ssh", "default"], directory.path());
    run(command.env("SSH_AUTH_SOCK", keys.socket())).ok();
    assert_eq!(bench.run("ssh:1", "cat /listed"), wanted);
    for (name, path) in [("ssh:2", keys.socket()), ("ssh:3", keys.key())] {
        let ssh = format!("default={}", path.display());
        bench.build(&["-t", name, "--no-cache", "--ssh", &ssh], &directory).ok();
        let listed = bench.run(name, "cat /listed");
        assert_eq!(listed.lines().count(), 4, "{listed}");
        assert!(listed.contains("(ED25519)") && listed.contains("signed"), "{listed}");
    }
    assert_eq!(keys.ask(&["-l"]), fingerprint, "the agent has its key still");
    eventually("no agent of ours is left", 300, || {
        let agents = run(Command::new("ps").args(["-eo", "args"])).ok();
        if agents.lines().any(|line| line.starts_with("ssh-agent -a ")) { Err(agents) } else { Ok(()) }
    });

    let file = directory.path().join("Dockerfile");
    bench
        .build(&["--ssh", &format!("default={}", file.display())], &directory)
        .refused(2, "ssh-add does not take");
    let nowhere = bench.build(&["--ssh", "default=/nowhere"], &directory);
    nowhere.refused(2, "\"/nowhere\", which --ssh names, is neither a socket nor a key");
    let mut command = bench.command(&["--ssh", "default"], directory.path());
    run(command.env_remove("SSH_AUTH_SOCK")).refused(2, "SSH_AUTH_SOCK is not set");
}

/// The directories of a large context, the small files in each, and the length of its large one.
const PARTS: usize = 16;
const SMALL: usize = 100;
const LARGE: u64 = 20 << 20;

fn parts(directory: &TempDir) -> Vec<PathBuf> {
    (0..PARTS).map(|number| directory.path().join(number.to_string())).collect()
}

/// A context that is long on its way: each of its readers soon comes to a large file, and most of the small ones wait.
fn large_context(bench: &Workbench) -> TempDir {
    let directory = bench.context("RUN --mount=type=bind,target=/data true\n", &[]);
    for part in parts(&directory) {
        fs::create_dir(&part).unwrap();
        for number in 0..SMALL {
            fs::write(part.join(number.to_string()), "x").unwrap();
        }
        fs::File::create(part.join("large")).unwrap().set_len(LARGE).unwrap();
    }
    directory
}

/// Makes of a file that was told of something else: it goes, becomes unreadable, or longer.
fn change_small(path: &Path, number: usize) {
    match number % 3 {
        0 => fs::remove_file(path).unwrap(),
        1 => fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap(),
        _ => fs::write(path, "longer than it was").unwrap(),
    }
}

/// Of one that may be being read: it becomes longer, something else, or empty.
fn change_large(path: &Path, number: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    match number % 4 {
        0 => file.set_len(LARGE + 1).unwrap(),
        1 => file.write_all_at(b"something else", LARGE / 2).unwrap(),
        _ => file.set_len(0).unwrap(),
    }
}

#[test]
fn a_context_that_changes_while_it_is_sent_ends_the_build_or_is_sent() {
    if skipped("build-inputs") {
        return;
    }
    let bench = Workbench::open();
    for with_small in [false, true] {
        let directory = large_context(bench);
        let parts = parts(&directory);
        let build = bench.sending_build(&directory);
        // All files have been told of by now. Small ones first: a reader comes to them when its large one has become short.
        for part in parts.iter().filter(|_| with_small) {
            (0..SMALL).for_each(|number| change_small(&part.join(number.to_string()), number));
        }
        for (number, part) in parts.iter().enumerate() {
            change_large(&part.join("large"), number);
        }
        let outcome = build.outcome();
        assert!(
            outcome.status == 0 || (outcome.status == 1 && outcome.stderr.contains("of the build context")),
            "{outcome}"
        );
        // The next one is not held up by what is left of it.
        for part in &parts {
            fs::remove_file(part.join("large")).unwrap();
        }
        run(Command::new("chmod").args(["-R", "u+rw"]).arg(directory.path())).ok();
        bench.build(&[], &directory).ok();
    }
}
