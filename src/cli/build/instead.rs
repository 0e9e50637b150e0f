//! What others' `build` has and this one has not.

/// What limits the steps of builders before BuildKit.
const LIMITS: &str =
    "BuildKit limits no step; the machine has what it is given: mvm up --cpus N --memory SIZE";

const INSTEAD: [(&str, &str); 16] = [
    ("--squash", "BuildKit does not squash; copy what counts into a last stage of the Dockerfile"),
    ("-m", LIMITS),
    ("--memory", LIMITS),
    ("--memory-swap", LIMITS),
    ("--cpu-period", LIMITS),
    ("--cpu-quota", LIMITS),
    ("--cpu-shares", LIMITS),
    ("--cpuset-cpus", LIMITS),
    ("--cpuset-mems", LIMITS),
    ("--isolation", "that is for containers of Windows; leave it out"),
    (
        "--security-opt",
        "a step asks for more by itself (RUN --security=insecure), and gets it with --allow security.insecure",
    ),
    ("--print", "write --call outline, or --call targets"),
    ("--policy", "name a source policy of BuildKit's with EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=FILE"),
    ("--invoke", "there is no debugger for builds here; leave it out"),
    ("--root", "the builder is a machine of its own; name it with --builder"),
    ("--detach", "a build ends with its command here; leave it out"),
];

/// What to do instead of giving this option, if it is one of theirs.
pub(in crate::cli) fn instead_of(option: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(known, _)| *known == option).map(|(_, instead)| *instead)
}
