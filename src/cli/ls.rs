//! `mvm ls`: all instances.

use super::output::{print, print_line};
use super::{Context, Failure, status};
use crate::supervisor::protocol::Status;

/// List the instances, with the platforms that really execute in each
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

pub async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let (mut all, mut is_complete) = (Vec::new(), true);
    for name in context.home.instances() {
        let paths = context.home.instance(&name);
        match status::of(&name, &paths).await {
            Ok(Some(mut found)) => {
                status::ask_platforms(&mut found, &paths).await;
                all.push(found);
            }
            Ok(None) => {}
            // One that cannot be told is no reason to hide the others.
            Err(failure) => {
                failure.report();
                is_complete = false;
            }
        }
    }
    if args.json {
        print_line(serde_json::to_string(&all)?)?;
    } else {
        print(table(&all))?;
    }
    if is_complete { Ok(()) } else { Err(Failure::Status(1)) }
}

fn table(all: &[Status]) -> String {
    let row = |cells: [&str; 4]| format!("{:<16} {:<9} {:<7} {}", cells[0], cells[1], cells[2], cells[3]);
    let mut lines = vec![row(["NAME", "STATE", "ENGINE", "PLATFORMS"])];
    for status in all {
        let working: Vec<&str> = status
            .platforms
            .iter()
            .filter(|found| found.works)
            .map(|found| found.platform.as_str())
            .collect();
        let engine = status.engine.as_deref().unwrap_or("-");
        lines.push(row([&status.name, status.state.as_str(), engine, &working.join(",")]));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::instance::Config;
    use crate::supervisor::protocol::{Platform, State, Status};

    #[test]
    fn only_platforms_that_execute_are_listed() {
        let platform =
            |name: &str, works| Platform { platform: name.into(), works, emulator: None, reason: None };
        let mut ready = Status::new(&"default".parse().unwrap(), State::Ready, Config::for_host(1, 0));
        ready.engine = Some("tcg".into());
        ready.platforms =
            vec![platform("linux/amd64", true), platform("linux/arm64", false), platform("linux/386", true)];
        let stopped = Status::new(&"ci".parse().unwrap(), State::Stopped, Config::for_host(1, 0));
        assert_eq!(
            table(&[ready, stopped]),
            "NAME             STATE     ENGINE  PLATFORMS\n\
             default          ready     tcg     linux/amd64,linux/386\n\
             ci               stopped   -\n"
        );
    }
}
