//! What a build is told as.

use super::*;
use crate::builder::Network;

fn build(names: &[&str], push: bool) -> Build {
    let stdin = b"FROM scratch\n".as_slice();
    Build {
        source: Source::find(std::path::Path::new("-"), DockerfileAt::Usual, Vec::new(), stdin).unwrap(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        platforms: vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()],
        arguments: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        labels: BTreeMap::new(),
        repository: BTreeMap::new(),
        annotations: Vec::new(),
        target: Some("t".to_owned()),
        call: None,
        no_cache: NoCache::All,
        steps: Steps::default(),
        pull: false,
        push,
        attestations: Vec::new(),
        outputs: Vec::new(),
        policy: None,
        secrets: Vec::new(),
        agents: Vec::new(),
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        is_share: false,
    }
}

fn request(build: &Build) -> SolveRequest {
    build.solve_request("r", "s", &build.exports(Store::Docker), Vec::new())
}

fn with_outputs(outputs: &[&str], build: Build) -> Build {
    Build { outputs: outputs.iter().map(|output| output.parse().unwrap()).collect(), ..build }
}

/// Of each exporter the type, the names, and whether it pushes.
fn told(build: &Build, store: Store) -> Vec<(String, String, bool)> {
    let told = |export: Export| {
        let attrs = export.exporter.attrs;
        (export.exporter.r#type, attrs.get("name").cloned().unwrap_or_default(), attrs.contains_key("push"))
    };
    build.exports(store).into_iter().map(told).collect()
}

#[test]
fn each_output_has_an_exporter() {
    let all = [
        "type=oci,dest=a",
        "type=image,name=y",
        "out",
        "type=cacheonly",
        "type=docker",
        "type=docker,dest=d",
    ];
    let build = with_outputs(&all, build(&["x"], false));
    let name = |name: &str| format!("docker.io/library/{name}:latest");
    let row = |kind: &str, name: &str, pushed| (kind.to_owned(), name.to_owned(), pushed);
    let wanted = |image: &str, load: &str| {
        [
            row("oci", &name("x"), false),
            row(image, &name("x"), false),
            row("local", "", false),
            row(load, &name("x"), false),
            row("docker", &name("x"), false),
        ]
    };
    assert_eq!(told(&build, Store::Docker), wanted("moby", "moby"));
    assert_eq!(told(&build, Store::Worker), wanted("image", "docker"));
    let unnamed = Build { names: Vec::new(), ..build.clone() };
    assert_eq!(
        told(&unnamed, Store::Docker)[1],
        row("moby", &name("y"), false),
        "its own, where -t has none"
    );
    let destinations: Vec<_> =
        build.exports(Store::Docker).into_iter().map(|export| export.destination).collect();
    assert_eq!(destinations[0], Some(Destination::File("a".into())));
    assert!(destinations[1].is_none() && destinations[3].is_none());

    let pushed = Build { push: true, ..with_outputs(&["out"], self::build(&["x"], false)) };
    assert_eq!(told(&pushed, Store::Docker), [row("local", "", false), row("moby", &name("x"), true)]);
    let pushed = Build { push: true, ..with_outputs(&["type=image"], self::build(&["x"], false)) };
    assert_eq!(told(&pushed, Store::Docker), [row("moby", &name("x"), true)]);
    assert!(told(&with_outputs(&["type=cacheonly"], self::build(&[], false)), Store::Docker).is_empty());
    assert!(with_outputs(&["type=registry"], self::build(&[], false)).lacks_name());
    assert!(!with_outputs(&["type=registry,name=y"], self::build(&[], false)).lacks_name());
}

#[test]
fn an_image_may_be_pushed_without_a_tag() {
    let build = with_outputs(&["type=image,push-by-digest=true"], build(&["ghcr.io/x/a"], true));
    let [export] = <[Export; 1]>::try_from(build.exports(Store::Docker)).unwrap();
    assert_eq!((&*export.exporter.r#type, &*export.exporter.attrs["name"]), ("image", "ghcr.io/x/a"));
    assert_eq!(build.tagged_by_digest(), None);
    let tagged = Build { names: vec!["ghcr.io/x/a:1".parse().unwrap()], ..build.clone() };
    assert_eq!(tagged.tagged_by_digest(), tagged.names.first().cloned());
    assert_eq!(Build { push: false, ..tagged }.tagged_by_digest(), None, "nothing is pushed");
    assert!(matches!(build.clone().prepare_shares(), Err(ShareError::ByDigest)));
}

#[test]
fn a_share_pushes_what_has_no_name_yet() {
    let whole = with_outputs(&["type=image", "out"], build(&["127.0.0.1:5000/a:1", "ghcr.io/x/a"], true));
    let share = whole.share(vec!["linux/arm64".parse().unwrap()]);
    let exports = share.exports(Store::Docker);
    let told: Vec<_> =
        exports.iter().map(|export| (&*export.exporter.r#type, &export.exporter.attrs)).collect();
    assert_eq!(told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), ["image", "image", "local"]);
    assert_eq!((&*told[0].1["name"], &*told[1].1["name"]), ("ghcr.io/x/a", "127.0.0.1:5000/a"));
    assert!(told[..2].iter().all(|(_, attrs)| attrs["push-by-digest"] == "true"));
    assert_eq!(told[2].1["platform-split"], "true");
    let attributes = request(&share).frontend_attrs;
    assert_eq!((&*attributes["platform"], &*attributes["multi-platform"]), ("linux/arm64", "true"));
    assert_eq!(whole.pushed_names().len(), 2);
}

#[test]
fn what_one_node_would_make_is_not_shared_out() {
    let refused = |outputs: &[&str]| with_outputs(outputs, build(&["a"], true)).prepare_shares().unwrap_err();
    assert!(matches!(refused(&["type=oci,dest=x"]), ShareError::Output("oci")));
    assert!(matches!(refused(&["type=tar,dest=x"]), ShareError::Output("tar")));
    assert!(matches!(refused(&["type=registry", "type=registry,compression=zstd"]), ShareError::Images));
    let cache = |text: &str| Build { cache_to: vec![Cache::to(text).unwrap()], ..build(&[], false) };
    assert!(matches!(cache("type=local,dest=d").prepare_shares(), Err(ShareError::Cache)));
    assert!(cache("type=inline").prepare_shares().is_ok());
    assert!(build(&["a"], false).stays_apart() && !build(&["a"], true).stays_apart());
}

#[test]
fn caches_are_told_twice() {
    let import = Cache::from("ghcr.io/a/b:c").unwrap().import(0, None).unwrap();
    let build =
        Build { cache_to: vec![Cache::to("type=local,dest=d,mode=max").unwrap()], ..build(&[], false) };
    let request = build.solve_request("r", "s", &[], vec![import]);
    let said: serde_json::Value = serde_json::from_str(&request.frontend_attrs["cache-imports"]).unwrap();
    assert_eq!(said, serde_json::json!([{"Type": "registry", "Attrs": {"ref": "ghcr.io/a/b:c"}}]));
    let cache = request.cache.unwrap();
    assert_eq!((cache.imports[0].r#type.as_str(), cache.exports[0].r#type.as_str()), ("registry", "local"));
    let attributes =
        [("dest", "to-0"), ("mode", "max")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(cache.exports[0].attrs, attributes.into());
}

#[test]
fn flags_become_attributes() {
    let request = request(&build(&["x"], false));
    let attribute = |key: &str| request.frontend_attrs.get(key).map(String::as_str);
    assert_eq!(attribute("platform"), Some("linux/amd64,linux/arm/v7"));
    assert_eq!(attribute("build-arg:A"), Some("1"));
    assert_eq!((attribute("target"), attribute("no-cache")), (Some("t"), Some("")));
    assert!(!request.internal);
    assert_eq!((attribute("image-resolve-mode"), attribute("attest:provenance")), (Some("local"), None));
    assert!(request.cache.is_some() && request.entitlements.is_empty());
    assert_eq!(request.exporter_deprecated, "moby");
    assert_eq!(request.exporters[0].attrs["name"], "docker.io/library/x:latest");
    assert!(!request.exporters[0].attrs.contains_key("push"));
    let pulled = self::request(&Build { pull: true, ..build(&["x"], false) });
    assert_eq!(pulled.frontend_attrs["image-resolve-mode"], "pull");
    let asked = self::request(&Build { call: Some(Call::check()), ..build(&["x"], false) });
    assert!(asked.internal && asked.frontend_attrs["requestid"] == "frontend.lint");
}

#[test]
fn a_part_of_the_cache_may_be_left_and_steps_may_run_otherwise() {
    let no_cache = NoCache::Stages(vec!["a".to_owned(), "b".to_owned()]);
    let steps = Steps { network: Network::Host, ..Steps::default() };
    let request = request(&Build { no_cache, steps, ..build(&["x"], false) });
    assert_eq!(request.frontend_attrs["no-cache"], "a,b");
    assert_eq!(request.frontend_attrs["force-network-mode"], "host");
    assert_eq!(request.entitlements, ["network.host"]);
}

#[test]
fn of_each_attestation_the_last_counts() {
    let attestations =
        ["type=sbom", "type=provenance", "type=sbom,disabled=true", "type=provenance,mode=max"];
    let attestations = attestations.map(|text| text.parse().unwrap()).into();
    let request = request(&Build { attestations, ..build(&["x"], false) });
    let mut attested: Vec<_> =
        request.frontend_attrs.iter().filter(|(key, _)| key.starts_with("attest:")).collect();
    attested.sort();
    assert_eq!(attested, [(&"attest:provenance".to_owned(), &"mode=max".to_owned())]);
}

#[test]
fn plain_http_is_for_loopback_only() {
    let exporters =
        build(&["127.0.0.1:5000/a", "ghcr.io/x/a", "localhost:5000/b"], true).exports(Store::Docker);
    let insecure: Vec<_> = exporters
        .iter()
        .map(|one| {
            (one.exporter.attrs["name"].as_str(), one.exporter.attrs.contains_key("registry.insecure"))
        })
        .collect();
    assert_eq!(
        insecure,
        [("ghcr.io/x/a:latest", false), ("127.0.0.1:5000/a:latest,localhost:5000/b:latest", true)]
    );
    assert_eq!(build(&["127.0.0.1:5000/a", "x"], false).exports(Store::Docker).len(), 1, "nothing is pushed");
}
