//! Which ports of the host's loopback a build needs: those of the registries there that its names and its Dockerfile
//! speak of. Nothing else of the host's loopback is opened to the guest.

use super::Args;
use crate::builder::Source;
use crate::registry::{ImageRef, loopback_port};

/// The ports, each once. What cannot be read has none: the build itself will say so.
pub fn loopback_ports(args: &Args) -> Vec<u16> {
    let mut ports: Vec<u16> = args.tags.iter().filter_map(loopback_port).collect();
    for argument in &args.build_args {
        ports.extend(argument.split_once('=').and_then(|(_, value)| port_of(value)));
    }
    let text = Source::find(&args.context, args.file.as_deref())
        .ok()
        .and_then(|source| std::fs::read(source.dockerfile_directory.join(source.dockerfile_name)).ok());
    if let Some(text) = text {
        ports.extend(ports_of_dockerfile(&String::from_utf8_lossy(&text)));
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A name that says its registry's port; `localhost:8080` alone is an image with a tag.
fn port_of(name: &str) -> Option<u16> {
    loopback_port(&name.parse::<ImageRef>().ok()?)
}

/// The images that a Dockerfile names: what it is FROM, what it copies and mounts from, defaults of its arguments, and
/// its syntax. Names with variables in them count if the registry is spelled out.
fn ports_of_dockerfile(text: &str) -> Vec<u16> {
    let mut ports = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        match instruction.to_ascii_lowercase().as_str() {
            "from" => ports.extend(words.filter_map(|word| port_of(&without_variables(word)))),
            "arg" => {
                let values = words.filter_map(|word| {
                    word.split_once('=').map(|(_, value)| value.trim_matches(['"', '\'']))
                });
                ports.extend(values.filter_map(|value| port_of(&without_variables(value))));
            }
            "copy" | "run" | "add" => ports.extend(words.flat_map(sources).filter_map(|name| port_of(&name))),
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

/// The images in `--from=IMAGE` and `--mount=type=bind,from=IMAGE,...`.
fn sources(word: &str) -> Vec<String> {
    let Some(flag) = word.strip_prefix("--") else { return Vec::new() };
    let from =
        flag.split(',').filter_map(|part| part.strip_prefix("from=").or(part.strip_prefix("mount=from=")));
    from.map(without_variables).collect()
}

/// A variable in place of a repository or a tag does not change the registry.
fn without_variables(name: &str) -> String {
    let mut plain = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('$') {
        plain.push_str(before);
        plain.push('x');
        rest = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(_, more)| more),
            None => after
                .trim_start_matches(|character: char| character.is_ascii_alphanumeric() || character == '_'),
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_on_loopback_are_found() {
        let dockerfile = "# syntax=127.0.0.1:5001/frontend\nARG BASE=\"localhost:5002/base:1\"\n\
            from --platform=$BUILDPLATFORM 127.0.0.1:5003/x:${TAG} AS a\nFROM busybox\nFROM $BASE\n\
            COPY --from=127.0.0.1:5004/y /a /b\nRUN --mount=type=bind,from=127.0.0.1:5005/z,target=/z true\n";
        assert_eq!(ports_of_dockerfile(dockerfile), [5001, 5002, 5003, 5004, 5005]);
    }

    #[test]
    fn nothing_else_of_loopback_is_opened() {
        let dockerfile = "FROM localhost:8080\nRUN curl http://127.0.0.1:6000/x\nENV A=127.0.0.1:6001/x\n\
            # 127.0.0.1:6002/x\nFROM example.com:6003/x\nCOPY 127.0.0.1:6004/x /\n";
        assert_eq!(ports_of_dockerfile(dockerfile), Vec::<u16>::new());
    }
}
