//! What a builder keeps: its cache and its history; and what registries hold of its work.

use crate::support::{Registry, Workbench, docker, run, skipped};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// When dockerd was started, by the guest's kernel.
fn dockerd(bench: &Workbench) -> String {
    let script = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2> /dev/null) in /usr/sbin/dockerd*) \
        echo $p $(cut -d ' ' -f 22 $p/stat);; esac; done";
    bench.instance.mvm(&["exec", "sh", "-c", script]).ok()
}

/// BuildKit v0.20 to v0.28 dies of a history that is asked for with a limit, once a record has been deleted; Docker 28.5 has one of
/// those.
#[test]
fn a_history_never_crashes_dockerd_28_5() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    let daemon = dockerd(bench);
    assert_eq!(daemon.lines().count(), 1, "{daemon}");
    let directory = bench.context("RUN echo hello from a step\n", &[]);
    let failing = bench.context("RUN echo before the end; false\n", &[]);
    let metadata = directory.path().join("metadata.json");
    for number in 0..5 {
        let name = format!("history:{number}");
        bench
            .build(&["-t", &name, "--no-cache", "--metadata-file", metadata.to_str().unwrap()], &directory)
            .ok();
    }
    bench.build(&["-t", "history:failed"], &failing).refused(1, "exit code: 1");
    let mvm = |arguments: &[&str]| bench.instance.mvm(&[&["history"], arguments].concat());
    let builds = json(&mvm(&["ls", "--json"]).ok());
    let builds = builds.as_array().unwrap();
    let named = |name: &str| builds.iter().position(|build| build["name"].as_str().unwrap().contains(name));
    assert_eq!(named("history:failed"), Some(0), "the newest is first: {builds:?}");
    assert_eq!(builds[0]["status"], "error");
    assert_eq!(named("history:4"), Some(1));
    assert_eq!(builds[1]["status"], "completed");
    let id = builds[1]["id"].as_str().unwrap();
    let reference =
        json(&std::fs::read_to_string(metadata).unwrap())["buildx.build.ref"].as_str().unwrap().to_owned();
    assert!(reference.ends_with(id), "{reference} is {id}");

    // By its whole name, by its beginning, and as others write it.
    for name in [id, &id[..8], &reference, "^1"] {
        let logs = mvm(&["logs", name]).ok();
        assert!(
            logs.contains("] RUN echo hello from a step\n") && logs.contains(" hello from a step\n"),
            "{logs}"
        );
    }
    mvm(&["logs", "^1000"]).refused(2, "does not remember so many builds: there is no ^1000");
    let reports = mvm(&["logs", "^1", "--progress", "rawjson"]).ok();
    assert!(!reports.is_empty() && reports.lines().all(|line| json(line).is_object()), "{reports}");
    let failed = json(&mvm(&["ls", "--json", "--filter", "status=error", "--filter", "startedAt>1h"]).ok());
    assert!(failed.as_array().unwrap().iter().all(|build| build["status"] == "error"), "{failed}");
    assert!(failed.as_array().unwrap().iter().any(|build| build["id"] == builds[0]["id"]), "{failed}");
    let newest = mvm(&["logs"]).ok();
    assert!(newest.contains("before the end") && newest.contains("ERROR: "), "{newest}");
    let inspected = mvm(&["inspect", id]).ok();
    assert!(
        inspected.contains("Status     completed\n") && inspected.contains("Digest     sha256:"),
        "{inspected}"
    );
    let details = json(&mvm(&["inspect", "--json"]).ok());
    assert!(details["error"].as_str().unwrap().contains("exit code: 1"), "{details}");
    let table = mvm(&["ls"]).ok();
    assert!(table.contains("history:3") && table.lines().any(|line| line.contains(" error ")), "{table}");
    let lines = mvm(&["ls", "--format", "{{.Ref}} {{.Status}}"]).ok();
    assert!(
        lines.contains(&format!("{} Error\n{id} Completed\n", builds[0]["id"].as_str().unwrap())),
        "{lines}"
    );
    mvm(&["ls", "--format", "{{.Reff}}"]).refused(2, "there is no .Reff in this list; there are Ref, Name, ");

    mvm(&["rm", id]).ok();
    mvm(&["inspect", id]).refused(2, "remembers no build");
    mvm(&["rm", "nothing-like-it"]).refused(2, "the builder remembers no build \"nothing-like-it\"");
    for _ in 0..3 {
        let left = json(&mvm(&["ls", "--json"]).ok());
        assert!(left.as_array().unwrap().iter().all(|build| build["id"] != id), "{left}");
    }
    mvm(&["rm", "--all"]).ok();
    assert_eq!(mvm(&["ls", "--json"]).ok(), "[]\n");
    mvm(&["inspect"]).refused(1, "the builder remembers no build");
    assert_eq!(dockerd(bench), daemon, "it is the same daemon as before");
}

#[test]
fn the_cache_is_shown_and_pruned_as_dockers_client_sees_it() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    bench.forget();
    let dockerfile = "RUN dd if=/dev/zero of=/large bs=1M count=4 2> /dev/null\n\
        RUN --mount=type=cache,target=/cache,id=kept echo x > /cache/x\n";
    let directory = bench.context(dockerfile, &[]);
    bench.build(&[], &directory).ok();
    let mvm = |arguments: &[&str]| bench.instance.mvm(arguments);
    let ids = |arguments: &[&str]| -> Vec<String> {
        let records = json(&mvm(&[&["du", "--json"], arguments].concat()).ok());
        records.as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(&[]);
    assert!(all.len() >= 3, "{all:?}");
    let theirs = run(docker(&bench.instance.docker_socket()).args(["buildx", "du"])).ok();
    assert!(all.iter().all(|id| theirs.contains(id.as_str())), "{all:?}\n{theirs}");
    assert_eq!(mvm(&["du", "--format", "{{.ID}}"]).ok().lines().collect::<Vec<_>>(), all);
    let table = mvm(&["du"]).ok();
    assert!(
        table.starts_with("ID ") && table.contains("\nReclaimable ") && table.contains("\nTotal "),
        "{table}"
    );
    assert!(mvm(&["du", "--verbose"]).ok().contains("Description  "), "details");
    let mounts = ids(&["--filter", "type=exec.cachemount"]);
    assert_eq!(mounts.len(), 1, "{mounts:?}");

    mvm(&["prune"]).refused(2, "nobody can be asked here whether that is meant; say --force");
    mvm(&["prune", "--filter", "color=red"]).refused(2, "nothing is filtered by \"color\"");
    let pruned = mvm(&["prune", "--force", "--filter", "type=exec.cachemount"]).ok();
    assert!(pruned.contains(&mounts[0]) && pruned.contains("Freed "), "{pruned}");
    assert!(ids(&["--filter", "type=exec.cachemount"]).is_empty());
    assert!(ids(&[]).len() >= 2);
    let kept = mvm(&["prune", "--force", "--all", "--filter", "until=24h", "--json"]).ok();
    assert_eq!(kept, "", "all was used within a day");
    let gone = mvm(&["prune", "--force", "--all", "--json"]).ok();
    assert!(gone.lines().count() >= 2 && gone.lines().all(|line| json(line)["size"].is_u64()), "{gone}");
    assert!(ids(&[]).len() < 2, "{:?}", ids(&[]));
}

#[test]
fn images_are_joined_and_copied_under_names() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    let there = Registry::open();
    let mvm = |arguments: &[&str]| bench.instance.mvm(&[&["imagetools"], arguments].concat());
    let raw = |image: &str| mvm(&["inspect", "--raw", image]).ok();
    let platforms = |image: &str| -> Vec<String> {
        let found = json(&mvm(&["inspect", "--json", image]).ok());
        let all = found["manifests"].as_array().unwrap().iter();
        all.map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned()).collect()
    };
    // To another registry, as it is.
    let copy = there.image("copies/base:1");
    let digest = mvm(&["create", "-t", &copy, &bench.base.image]).ok();
    assert_eq!(raw(&copy), raw(&bench.base.image));
    assert!(there.blob(digest.trim()).exists());
    assert_eq!(platforms(&copy), ["amd64", "arm64", "arm"]);
    let run_there = bench.instance.mvm(&["run", "--rm", "--pull", "always", &copy, "uname", "-m"]);
    assert_eq!(run_there.ok(), "x86_64\n", "all of it is there");

    // Two of one platform each become one, in a repository of its own.
    let one = |platform: &str, name: &str| {
        let directory = bench.context(&format!("RUN echo {name} > /name\n"), &[]);
        let image = bench.registry.image(name);
        bench.build(&["--platform", platform, "-t", &image, "--push"], &directory).ok();
        image
    };
    let (amd64, arm64) = (one("linux/amd64", "one:1"), one("linux/arm64", "two:1"));
    let joined = bench.registry.image("joined:1");
    let dry = mvm(&["create", "-t", &joined, "--dry-run", &amd64, &arm64]).ok();
    mvm(&["inspect", &joined]).refused(1, "is not in the registry");
    let theirs = run(docker(&bench.instance.docker_socket())
        .args(["buildx", "imagetools", "create", "--dry-run", "-t"])
        .args([&joined, &amd64, &arm64]));
    assert_eq!(json(&dry), json(&theirs.ok()), "it is what buildx would make");
    mvm(&["create", "-t", &joined, &amd64, &arm64]).ok();
    assert_eq!(json(&raw(&joined)), json(&dry));
    assert_eq!(platforms(&joined), ["amd64", "arm64"]);
    let seen = bench.instance.mvm(&["run", "--rm", "--platform", "linux/arm64", &joined, "cat", "/name"]);
    assert_eq!(seen.ok(), "two:1\n");

    // More is added to it, and something said of it.
    let arm = one("linux/arm/v7", "three:1");
    let annotations =
        ["--annotation", "index:what=all", "--annotation", "manifest-descriptor[linux/arm/v7]:what=arm"];
    mvm(&[&["create", "-t", &joined, "--append"], &annotations[..], &[&arm, &amd64]].concat()).ok();
    assert_eq!(platforms(&joined), ["amd64", "arm64", "arm"]);
    let index = json(&raw(&joined));
    assert_eq!(index["annotations"]["what"], "all");
    assert_eq!(index["manifests"][2]["annotations"]["what"], "arm");
    // And less.
    let less = bench.registry.image("less:1");
    mvm(&["create", "-t", &less, "--platform", "linux/arm64", &joined]).ok();
    assert_eq!(platforms(&less), ["arm64"]);
    // One manifest alone gets an index, unless it is not to.
    let alone = bench.registry.image("alone:1");
    mvm(&["create", "-t", &alone, &amd64]).ok();
    assert_eq!(platforms(&alone), ["amd64"]);
    mvm(&["create", "-t", &alone, "--prefer-index=false", &amd64]).ok();
    assert_eq!(raw(&alone), raw(&amd64));

    let theirs = |arguments: &[&str]| {
        let mut client = docker(&bench.instance.docker_socket());
        run(client.args(["buildx", "imagetools", "create", "--dry-run"]).args(arguments)).ok()
    };
    let same = |arguments: &[&str]| {
        let ours = mvm(&[&["create", "--dry-run"], arguments].concat()).ok();
        assert_eq!(json(&ours), json(&theirs(arguments)), "{arguments:?}");
        json(&ours)
    };
    // What is attested of a platform stays with it.
    let attested = bench.registry.image("attested:1");
    let directory = bench.context("RUN true\n", &[]);
    let options = ["--platform", "linux/amd64,linux/arm64", "--provenance=true", "-t", &attested, "--push"];
    bench.build(&options, &directory).ok();
    let kept = same(&["-p", "linux/arm64", "-t", &less, &attested]);
    let kept = kept["manifests"].as_array().unwrap();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let digest_of_arm64 = kept[0]["digest"].as_str().unwrap();
    assert_eq!(kept[1]["annotations"]["vnd.docker.reference.digest"], digest_of_arm64);
    // Digests and descriptors, as arguments and in files.
    let again = bench.registry.image("attested:2");
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("source");
    let descriptor = serde_json::json!({
        "mediaType": kept[0]["mediaType"], "digest": digest_of_arm64, "size": kept[0]["size"],
        "annotations": {"a": "b"}, "platform": {"os": "linux", "architecture": "riscv64"},
    });
    for source in [digest_of_arm64, &descriptor.to_string(), &format!("{{\"digest\":\"{digest_of_arm64}\"}}")]
    {
        same(&["-t", &again, source]);
        std::fs::write(&file, source).unwrap();
        same(&["-t", &again, "-f", file.to_str().unwrap()]);
    }
    // What is said again of something that is listed already; Debian's buildx 0.13 looks for it under another name.
    let descriptor = descriptor.to_string();
    let added = json(&mvm(&["create", "--dry-run", "--append", "-t", &attested, &descriptor]).ok());
    let of_arm64 = added["manifests"].as_array().unwrap().iter().find(|one| one["digest"] == digest_of_arm64);
    assert_eq!(of_arm64.unwrap()["annotations"], serde_json::json!({"a": "b"}));
    assert_eq!(of_arm64.unwrap()["platform"]["architecture"], "riscv64");
    std::fs::write(&file, format!("{attested}\n")).unwrap();
    let quiet =
        mvm(&["create", "-t", &again, "--progress", "quiet", "-f", file.to_str().unwrap(), digest_of_arm64]);
    assert_eq!((quiet.stderr.as_str(), quiet.status), ("", 0));
    let reports = mvm(&["create", "-t", &again, "--progress", "rawjson", &attested]);
    let names = reports.stderr.lines().map(|line| json(line)["vertexes"][0]["name"].clone());
    assert!(names.collect::<Vec<_>>().contains(&format!("join {again}").into()), "{reports}");
    mvm(&["create", "--dry-run", digest_of_arm64])
        .refused(2, "is in no repository that is named here; give -t NAME, or NAME@sha256:");
    mvm(&["create", "-t", &again, "sha256:00"]).refused(2, "\"sha256:00\" is no digest");
    mvm(&["create", "-t", &again, &format!("{{\"digest\":\"{digest_of_arm64}\",\"size\":3}}")])
        .refused(1, "says that its size is 3, and it is ");
    mvm(&["create", "-t", &again, "-f", "/nonexistent"]).refused(2, "check what --file names: No such file");
    mvm(&["create", "-t", &again, "--progress", "fancy", &attested]).refused(2, "invalid value 'fancy'");

    mvm(&["create", "-t", &less, "--platform", "linux/s390x", &joined])
        .refused(1, "nothing of what was named is for linux/s390x");
    mvm(&["create", "-t", &less, &there.image("nothing:1")]).refused(1, "nothing:1");
    mvm(&["create", "-t", &format!("{less}@{}", digest.trim()), &joined]).refused(2, "has a digest");
}

#[test]
fn parts_of_an_image_are_shown_as_buildx_shows_them() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    let image = bench.registry.image("formatted:1");
    let directory = bench.context("LABEL a=b\n", &[]);
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--provenance=mode=max"];
    bench.build(&[&platforms[..], &["-t", &image, "--push"]].concat(), &directory).ok();
    let theirs = |format: &str| {
        let mut client = docker(&bench.instance.docker_socket());
        run(client.args(["buildx", "imagetools", "inspect", "--format", format, &image])).ok()
    };
    let ours = |format: &str| bench.instance.mvm(&["imagetools", "inspect", "--format", format, &image]).ok();
    assert_eq!(ours("{{.Name}}").trim(), theirs("{{.Name}}").trim());
    for format in [
        "{{json .Manifest.Digest}}",
        "{{json .Manifest.Size}}",
        "{{json .Manifest.Manifests}}",
        "{{json (index .Image \"linux/arm64\")}}",
        "{{json .Image}}",
        "{{json (index .Provenance \"linux/amd64\").SLSA}}",
    ] {
        assert_eq!(json(&ours(format)), json(&theirs(format)), "{format}");
    }
    for format in [
        "{{range .Manifest.Manifests}}{{.Digest}} {{end}}",
        "{{range $i, $m := .Manifest.Manifests}}{{if $i}}, {{end}}{{$m.Size}} {{$m.Platform.Variant}}{{end}}",
        "{{range .Manifest.Manifests}}{{.Annotations}} {{.URLs}} {{with .Platform}}{{.OS}}/{{.Architecture}}{{end}}\n{{end}}",
        "{{range $platform, $image := .Image}}{{$platform}}={{$image.Architecture}};{{end}}",
        "{{(index .Image \"linux/amd64\").OS}} {{(index .Image \"linux/amd64\").Config.User}}",
        "{{(index .Image \"linux/amd64\").Config.Labels}} {{(index .Image \"linux/amd64\").Config.Env}}",
        "{{(index .Image \"linux/amd64\").RootFS}} {{index .Image \"linux/s390x\"}}",
        "{{(index .Manifest.Manifests 0).Digest}} {{len .Manifest.Manifests}}",
        "{{println .Name}}",
        "{{println (index .Provenance \"linux/amd64\").SLSA.nope}}{{html (index .Provenance \"linux/amd64\").SLSA.nope}}",
        "{{.Name | printf \"%s %q %5d %v\" .Name .Name 7}}",
        "{{with $x := .SBOM}}y{{else}}n{{end}}{{/* no more */}} {{- eq 1 2 1}} {{not .Name -}} !",
        "{{(index .Provenance \"linux/amd64\").SLSA.nope}}",
    ] {
        assert_eq!(ours(format).trim_end_matches('\n'), theirs(format).trim_end_matches('\n'), "{format}");
    }
    // Where buildx shows a table, whatever part was asked for.
    let digest = json(&theirs("{{json .Manifest.Digest}}"));
    assert_eq!(ours("{{.Manifest.Digest}}").trim(), digest.as_str().unwrap());
    assert_eq!(ours("$.image['linux/arm64'].config.Labels.a"), "b\n");
    let table = bench.instance.mvm(&["imagetools", "inspect", &image]).ok();
    assert_eq!(table.matches("  Attests:   sha256:").count(), 2, "{table}");
    assert_eq!(ours("{{.Manifest}}"), table);
    let refused = |format: &str, status: i32, message: &str| {
        bench.instance.mvm(&["imagetools", "inspect", "--format", format, &image]).refused(status, message);
    };
    refused(
        "{{json .Nope}}",
        1,
        "column 8 of the template: there is no .Nope here; there are Name, Manifest,",
    );
    refused("{{nope .Name}}", 2, "column 3 of the template: there is no function \"nope\"");
    refused("$.nope", 1, "the image has no .nope; `--format '{{json .}}'` shows what it has");

    // Of what nothing is said: of one platform, of one in an index, and of several.
    let silent = bench.registry.image("silent:1");
    let several = bench.registry.image("silent:2");
    let listed = bench.registry.image("silent:3");
    bench.build(&["-t", &silent, "--push"], &directory).ok();
    bench.build(&["--platform", "linux/amd64,linux/arm64", "-t", &several, "--push"], &directory).ok();
    bench.build(&["--provenance=true", "-t", &listed, "--push"], &directory).ok();
    for image in [&silent, &several, &listed, &image] {
        for format in [
            "{{json .SBOM}}",
            "{{json .SBOM.SPDX}}",
            "{{json .Provenance}}",
            "{{json .Provenance.SLSA}}",
            "{{if .SBOM}}{{json .SBOM}}{{else}}[]{{end}}",
            "{{json .Manifest.Digest}}",
        ] {
            let mut client = docker(&bench.instance.docker_socket());
            let theirs =
                run(client.args(["buildx", "imagetools", "inspect", "--format", format, image])).ok();
            let ours = bench.instance.mvm(&["imagetools", "inspect", "--format", format, image]).ok();
            assert_eq!(json(&ours), json(&theirs), "{image}: {format}");
        }
    }
}

#[test]
fn what_an_image_contains_is_listed_by_a_generator_of_ones_own() {
    if skipped("builder") {
        return;
    }
    let bench = Workbench::open();
    // Lists names only. What a generator finds where and writes where is BuildKit's (docs/attestations/sbom-protocol.md).
    let scan = r#"#!/bin/sh -e
cd "$BUILDKIT_SCAN_SOURCE"
found=$(ls -d mine* | tr '\n' ' ')
head='"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[]'
printf '{%s,"predicate":{"spdxVersion":"SPDX-2.3","name":"%s"}}' "$head" "$found" > "$BUILDKIT_SCAN_DESTINATION/names.spdx.json"
"#;
    let generator = bench.registry.image("generator:1");
    let directory = bench.context("COPY --chmod=755 scan /\nENTRYPOINT [\"/scan\"]\n", &[("scan", scan)]);
    bench.build(&["-t", &generator, "--push"], &directory).ok();

    let image = bench.registry.image("listed:1");
    let directory = bench.context("ARG TARGETARCH\nCOPY a /mine-$TARGETARCH\n", &[("a", "a\n")]);
    let sbom = format!("--sbom=generator={generator}");
    let options = ["--platform", "linux/amd64,linux/arm64", "-t", &image, "--push", &sbom];
    bench.build(&options, &directory).ok();
    const FORMAT: &str = "{{json .SBOM}}";
    let listed = json(&bench.instance.mvm(&["imagetools", "inspect", "--format", FORMAT, &image]).ok());
    for architecture in ["amd64", "arm64"] {
        let name = &listed[format!("linux/{architecture}")]["SPDX"]["name"];
        assert_eq!(*name, format!("mine-{architecture} "), "{listed}");
    }
    let mut client = docker(&bench.instance.docker_socket());
    let theirs = run(client.args(["buildx", "imagetools", "inspect", "--format", FORMAT, &image])).ok();
    assert_eq!(listed, json(&theirs));
}
