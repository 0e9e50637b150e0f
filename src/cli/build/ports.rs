//! Which ports of the host's loopback a build needs: those of the registries there that its names and its Dockerfile
//! speak of. Nothing else of the host's loopback is opened to the guest.

use std::collections::HashMap;

use crate::builder::{Build, Policy};
use crate::registry::{ImageRef, loopback_port};

/// The ports, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LoopbackPorts {
    /// Of names on the command line.
    pub(super) asked: Vec<u16>,
    /// Of names that only the Dockerfile has: it may be somebody else's.
    pub(super) from_dockerfile: Vec<u16>,
}

impl LoopbackPorts {
    /// What cannot be read has none: the build itself will say so.
    pub(super) fn of(build: &Build) -> Self {
        let caches = build.cache_from.iter().chain(&build.cache_to);
        let names = build.all_names().into_iter().chain(caches.filter_map(|cache| cache.image()));
        let mut asked: Vec<u16> = names.filter_map(loopback_port).collect();
        let given = build.arguments.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        asked.extend(build.arguments.values().filter_map(|value| port_of(value)));
        asked.extend(build.source.addresses().filter_map(port_of_address));
        asked.extend(build.policy.iter().flat_map(Policy::addresses).filter_map(port_of_address));
        let mut from_dockerfile = match build.source.dockerfile_text() {
            Some(text) => ports_of_dockerfile(&String::from_utf8_lossy(&text), &given),
            None => Vec::new(),
        };
        for ports in [&mut asked, &mut from_dockerfile] {
            ports.sort_unstable();
            ports.dedup();
        }
        from_dockerfile.retain(|port| !asked.contains(port));
        Self { asked, from_dockerfile }
    }

    pub(super) fn all(&self) -> Vec<u16> {
        [self.asked.as_slice(), self.from_dockerfile.as_slice()].concat()
    }
}

/// That of an image's name, or of a context that is one.
pub(in crate::cli) fn named(text: &str) -> Option<u16> {
    port_of(text.strip_prefix("docker-image://").unwrap_or(text))
}

/// A name that says its registry's port; `localhost:8080` alone is an image with a tag.
fn port_of(name: &str) -> Option<u16> {
    loopback_port(&name.parse::<ImageRef>().ok()?)
}

/// The port of an address on loopback that the builder fetches a context from: an image's, or a file's or repository's.
fn port_of_address(address: &str) -> Option<u16> {
    let (scheme, rest) = address.split_once("://")?;
    if scheme == "docker-image" {
        return port_of(rest);
    }
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        "git" => 9418,
        "ssh" => 22,
        _ => return None,
    };
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (host, port) = match host.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (host, usual),
    };
    ["localhost", "127.0.0.1"].contains(&host).then_some(port)
}

/// The images that a Dockerfile names: what it is FROM, what it copies and mounts from, defaults of its arguments, and
/// its syntax. `given` are the arguments of the command line.
pub(in crate::cli) fn ports_of_dockerfile(text: &str, given: &HashMap<&str, &str>) -> Vec<u16> {
    let mut ports = Vec::new();
    let mut variables: HashMap<String, String> =
        given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    for line in instructions(text) {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        match instruction.to_ascii_lowercase().as_str() {
            "from" => ports.extend(words.filter_map(|word| port_of(&expanded(word, &variables)))),
            "arg" => {
                for (key, value) in words.filter_map(|word| word.split_once('=')) {
                    let value = expanded(value.trim_matches(['"', '\'']), &variables);
                    ports.extend(port_of(&value));
                    variables.entry(key.to_owned()).or_insert(value);
                }
            }
            "copy" | "run" | "add" => {
                let names = words.flat_map(sources).map(|name| expanded(name, &variables));
                ports.extend(names.filter_map(|name| port_of(&name)));
            }
            comment if comment.starts_with('#') => {
                let directive = line.trim_start_matches('#').trim().strip_prefix("syntax");
                let name = directive.and_then(|rest| rest.trim_start().strip_prefix('='));
                ports.extend(name.and_then(|name| port_of(name.trim())));
            }
            _ => {}
        }
    }
    ports
}

/// The lines of a Dockerfile, those that a backslash continues in one.
pub(super) fn instructions(text: &str) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.lines() {
        let is_comment = line.trim_start().starts_with('#');
        let (content, more) = match line.trim_end().strip_suffix('\\') {
            Some(content) if !is_comment => (content, true),
            _ => (line, false),
        };
        match whole.last_mut() {
            // A comment between the parts of an instruction belongs to none of them.
            Some(_) if continues && is_comment => continue,
            Some(last) if continues => last.push_str(content),
            _ => whole.push(content.to_owned()),
        }
        continues = more;
    }
    whole
}

/// The images in `--from=IMAGE` and `--mount=type=bind,from=IMAGE,...`.
fn sources(word: &str) -> impl Iterator<Item = &str> {
    let parts = word.strip_prefix("--").unwrap_or_default().split(',');
    parts.filter_map(|part| part.strip_prefix("from=").or(part.strip_prefix("mount=from=")))
}

/// With the variables replaced. One that is not known becomes a letter: in place of a repository or a tag it does not
/// change the registry.
fn expanded(name: &str, variables: &HashMap<String, String>) -> String {
    const UNKNOWN: &str = "x";
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key_length = |text: &str| text.find(|c| !word(c)).unwrap_or(text.len());
        let (variable, default, more) = if let Some(braced) = after.strip_prefix('{') {
            let (inside, more) = braced.split_once('}').unwrap_or((braced, ""));
            // `${KEY:-DEFAULT}`, and `${KEY-DEFAULT}`.
            let (key, rule) = inside.split_at(key_length(inside));
            (key, rule.trim_start_matches(':').strip_prefix('-'), more)
        } else {
            let (key, more) = after.split_at(key_length(after));
            (key, None, more)
        };
        let value = variables.get(variable).map(String::as_str).or(default);
        text.push_str(value.unwrap_or(UNKNOWN));
        rest = more;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(dockerfile: &str) -> Vec<u16> {
        ports_of_dockerfile(dockerfile, &HashMap::from([("GIVEN", "localhost:5010")]))
    }

    #[test]
    fn registries_on_loopback_are_found() {
        let dockerfile = "# syntax=127.0.0.1:5001/frontend\nARG BASE=\"localhost:5002/base:1\"\n\
            from --platform=$BUILDPLATFORM 127.0.0.1:5003/x:${TAG} AS a\nFROM busybox\n\
            COPY --from=127.0.0.1:5004/y /a /b\nRUN --mount=type=bind,from=127.0.0.1:5005/z,target=/z true\n";
        assert_eq!(ports(dockerfile), [5001, 5002, 5003, 5004, 5005]);
    }

    #[test]
    fn addresses_of_contexts_have_ports() {
        for (address, port) in [
            ("http://127.0.0.1:8000/r.git#main", Some(8000)),
            ("https://me:secret@localhost/x", Some(443)),
            ("git://localhost/x", Some(9418)),
            ("ssh://git@127.0.0.1/x", Some(22)),
            ("docker-image://localhost:5000/a", Some(5000)),
            ("docker-image://alpine", None),
            ("http://127.0.0.2:80/", None),
            ("http://localhost:0/", None),
            ("github.com/a/b", None),
        ] {
            assert_eq!(port_of_address(address), port, "{address}");
        }
    }

    #[test]
    fn variables_have_the_values_of_the_command_line_and_of_the_dockerfile() {
        assert_eq!(ports("ARG REGISTRY=127.0.0.1:5000\nFROM ${REGISTRY}/a\n"), [5000]);
        assert_eq!(ports("ARG GIVEN=elsewhere\nFROM $GIVEN/a\n"), [5010], "the command line wins");
        assert_eq!(
            ports("FROM ${UNSET:-localhost:5003}/a AS b\nFROM ${UNSET-localhost:5004}/a\n"),
            [5003, 5004]
        );
        assert_eq!(ports("ARG P=5006\nARG H=localhost:$P\nFROM $H/a\n"), [5006]);
        assert_eq!(ports("FROM ${UNSET}/a\nFROM $\nFROM ${\nFROM ${}/x\n"), Vec::<u16>::new());
    }

    #[test]
    fn instructions_go_over_several_lines() {
        let dockerfile =
            "FROM \\\n  # a comment\n  localhost:5000/a\nRUN a && \\\n --mount=from=localhost:5001/b,c \\";
        assert_eq!(ports(dockerfile), [5000, 5001]);
    }

    #[test]
    fn nothing_else_of_loopback_is_opened() {
        let dockerfile = "FROM localhost:8080\nRUN curl http://127.0.0.1:6000/x\nENV A=127.0.0.1:6001/x\n\
            # 127.0.0.1:6002/x\nFROM example.com:6003/x\nCOPY 127.0.0.1:6004/x /\n";
        assert_eq!(ports(dockerfile), Vec::<u16>::new());
    }
}
