//! `mvm env`: the variables that point other clients at the builder.

use super::output::print_line;
use super::{Context, Failure};

/// Print DOCKER_HOST and BUILDKIT_HOST of an instance, for `eval "$(mvm env)"`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let paths = context.paths();
    let docker = format!("unix://{}", paths.docker_socket().display());
    let buildkit = format!("unix://{}", paths.buildkit_socket().display());
    if args.json {
        print_line(serde_json::json!({ "DOCKER_HOST": docker, "BUILDKIT_HOST": buildkit }))?;
    } else {
        print_line(format_args!("export DOCKER_HOST={}", quoted(&docker)))?;
        print_line(format_args!("export BUILDKIT_HOST={}", quoted(&buildkit)))?;
    }
    Ok(())
}

/// As one word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_the_shell() {
        assert_eq!(
            quoted("unix:///run/user/1000/mvm/default/docker.sock"),
            "unix:///run/user/1000/mvm/default/docker.sock"
        );
        assert_eq!(quoted("unix:///home/a b's/x"), r"'unix:///home/a b'\''s/x'");
    }
}
