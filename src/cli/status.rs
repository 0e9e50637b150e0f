//! `mvm status`: everything about one instance.

use std::time::Duration;

use super::output::{print, print_line};
use super::{Context, Failure};
use crate::agent::Agent;
use crate::instance::{Config, Name, Paths};
use crate::supervisor::client;
use crate::supervisor::protocol::{Platform, State, Status, Usage};

/// How long the guest may take to test its platforms: under load it takes seconds.
const SELF_TEST: Duration = Duration::from_secs(10);

/// Show an instance: state, engine, sizes, sockets, ports, and the platforms that really execute
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The instance [default: that of --instance, or of `mvm use`]
    name: Option<Name>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no instance is named {0}; `mvm up {0}` makes it")]
    Unknown(Name),
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let name = args.name.unwrap_or_else(|| context.name.clone());
    let paths = context.home.instance(&name);
    let mut status = of(&name, &paths).await?.ok_or(Error::Unknown(name)).map_err(Failure::no_machine)?;
    if status.state == State::Ready {
        // A status is told without it, too, when the guest is too busy to answer.
        status.usage = usage(&paths, Duration::from_secs(2)).await;
    }
    ask_platforms(&mut status, &paths).await;
    if args.json {
        print_line(serde_json::to_string(&status)?)?;
    } else {
        print(table(&status))?;
    }
    Ok(())
}

/// The status as the supervisor tells it, or as its last words were; `None` when there is no such instance.
pub async fn of(name: &Name, paths: &Paths) -> Result<Option<Status>, Failure> {
    match client::status(paths).await {
        Ok(status) => return Ok(Some(status)),
        Err(error) if error.is_no_machine() => {}
        Err(error) => return Err(error.into()),
    }
    let Some(config) = Config::load(&paths.config())? else { return Ok(None) };
    let last =
        std::fs::read(paths.state()).ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
    let logs = paths.logs().display().to_string();
    Ok(Some(without_supervisor(Status::new(name, State::Created, config), last, logs)))
}

/// What an instance is when nobody runs it.
fn without_supervisor(created: Status, last: Option<Status>, logs: String) -> Status {
    match last {
        None => created,
        Some(Status { state: state @ (State::Created | State::Stopped), .. }) => Status { state, ..created },
        Some(Status { state: State::Failed, reason, last_lines, log, .. }) => {
            Status { state: State::Failed, reason, last_lines, log, ..created }
        }
        Some(last) => {
            let reason = format!(
                "its supervisor was killed while it was {}; `mvm up` starts it again",
                last.state.as_str()
            );
            Status { state: State::Failed, reason: Some(reason), log: Some(logs), ..created }
        }
    }
}

/// Tests anew which platforms a ready guest executes: a registration may have gone since its boot. A guest that is too
/// busy to answer leaves what was known.
pub(super) async fn ask_platforms(status: &mut Status, paths: &Paths) {
    if status.state != State::Ready {
        return;
    }
    let asked = async { Agent::at(&paths.agent_socket()).await?.platforms(true).await };
    if let Ok(Ok(found)) = tokio::time::timeout(SELF_TEST, asked).await {
        status.platforms = found.into_iter().map(Platform::from).collect();
    }
}

/// Asks the guest; `None` when it does not answer within `patience`.
pub(super) async fn usage(paths: &Paths, patience: Duration) -> Option<Usage> {
    let asked = async { Agent::at(&paths.agent_socket()).await?.usage().await };
    tokio::time::timeout(patience, asked).await.ok()?.ok().map(Usage::from)
}

fn table(status: &Status) -> String {
    let mut rows: Vec<(&str, String)> = vec![("name", status.name.clone())];
    let state = match status.ready_after_ms {
        Some(ms) if status.state == State::Ready => format!("ready (after {}.{:03} s)", ms / 1000, ms % 1000),
        _ => status.state.as_str().to_owned(),
    };
    rows.push(("state", state));
    rows.extend(status.reason.iter().map(|reason| ("reason", reason.clone())));
    rows.extend(status.last_lines.iter().map(|line| ("printed", line.clone())));
    rows.extend(status.log.iter().map(|log| ("log", log.clone())));
    rows.extend(status.engine.iter().map(|engine| ("engine", engine.clone())));
    rows.extend(status.lacks.iter().map(|lack| ("lacks", lack.clone())));
    rows.push(("processors", status.config.cpus.to_string()));
    rows.push(("memory", format!("{} MiB", status.config.memory_mib)));
    rows.push(("data disk", format!("{} GiB", status.config.disk_gib)));
    if let Some(usage) = &status.usage {
        rows.push(("in use", usage.sentence()));
    }
    let ports =
        status.config.host_ports.iter().map(|port| ("host port", format!("127.0.0.1:{port} in the guest")));
    rows.extend(ports);
    rows.extend(status.published_ports.iter().map(|port| {
        ("published", port.problem.clone().unwrap_or_else(|| format!("127.0.0.1:{}", port.port)))
    }));
    rows.extend(status.docker_socket.iter().map(|socket| ("docker", socket.clone())));
    rows.extend(status.buildkit_socket.iter().map(|socket| ("buildkit", socket.clone())));
    rows.extend(
        status
            .services
            .iter()
            .map(|service| ("service", format!("{:<14} {}", service.name, service.sentence()))),
    );
    if status.state == State::Ready && status.platforms.is_empty() {
        rows.push(("platforms", "still being tested".to_owned()));
    }
    rows.extend(status.platforms.iter().map(|platform| ("platform", platform_words(platform))));
    rows.iter().map(|(key, value)| format!("{key:<11} {value}\n")).collect()
}

fn platform_words(platform: &Platform) -> String {
    let how = if platform.works {
        platform
            .emulator
            .as_deref()
            .map_or("by this processor".to_owned(), |emulator| format!("by {emulator}"))
    } else {
        format!("does not run: {}", platform.reason.as_deref().unwrap_or("no reason is known"))
    };
    format!("{:<14} {how}", platform.platform)
}

#[cfg(test)]
mod tests {
    use super::{table, without_supervisor};
    use crate::instance::Config;
    use crate::supervisor::protocol::{Platform, State, Status};

    fn status(state: State) -> Status {
        Status::new(&"default".parse().unwrap(), state, Config::for_host(2, 0))
    }

    #[test]
    fn instance_whose_supervisor_was_killed_has_failed() {
        let of = |last| without_supervisor(status(State::Created), last, "/logs".into());
        assert_eq!(of(None).state, State::Created);
        assert_eq!(of(Some(status(State::Stopped))).state, State::Stopped);
        let killed = of(Some(status(State::Ready)));
        assert_eq!(killed.state, State::Failed);
        assert_eq!(
            killed.reason.as_deref(),
            Some("its supervisor was killed while it was ready; `mvm up` starts it again")
        );
        assert_eq!(killed.log.as_deref(), Some("/logs"));
    }

    #[test]
    fn failure_of_a_machine_is_told_after_its_supervisor_ended() {
        let failed = Status {
            reason: Some("QEMU failed (signal: 9 (SIGKILL))".into()),
            last_lines: vec!["Oops".into()],
            log: Some("/s/default/logs".into()),
            ..status(State::Failed)
        };
        let text = table(&without_supervisor(status(State::Created), Some(failed), "/other".into()));
        let told = "state       failed\n\
                    reason      QEMU failed (signal: 9 (SIGKILL))\n\
                    printed     Oops\n\
                    log         /s/default/logs\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn table_tells_each_thing_that_the_host_lacks() {
        let lacks = vec!["this kernel has no Landlock".into(), "io_uring is forbidden here".into()];
        let text = table(&Status { engine: Some("kvm".into()), lacks, ..status(State::Ready) });
        let told = "engine      kvm\n\
                    lacks       this kernel has no Landlock\n\
                    lacks       io_uring is forbidden here\n\
                    processors  ";
        assert!(text.contains(told), "{text}");
        assert!(!table(&status(State::Ready)).contains("lacks"));
    }

    #[test]
    fn table_tells_which_platforms_run_and_why_others_do_not() {
        let platform = |platform: &str, works, emulator: Option<&str>, reason: Option<&str>| Platform {
            platform: platform.into(),
            works,
            emulator: emulator.map(Into::into),
            reason: reason.map(Into::into),
        };
        let text = table(&Status {
            platforms: vec![
                platform("linux/amd64", true, None, None),
                platform("linux/arm64", true, Some("qemu-aarch64 10.0.13"), None),
                platform("linux/s390x", false, None, Some("no program is registered for it")),
            ],
            ..status(State::Ready)
        });
        assert!(text.contains("platform    linux/amd64    by this processor\n"), "{text}");
        assert!(text.contains("platform    linux/arm64    by qemu-aarch64 10.0.13\n"), "{text}");
        assert!(text.contains("linux/s390x    does not run: no program is registered for it\n"), "{text}");
    }
}
