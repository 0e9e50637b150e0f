//! `mvm run`: a container in the guest, as if it ran here.

mod env_file;

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use env_file::EnvFileError;

use super::output::print_line;
use super::target::Target;
use super::{Context, Failure};
use crate::docker::{
    self, Builder, Ended, PublishedPort, PullPolicy, PullWatcher, Request, Signals, Terminal, Volume,
};
use crate::registry::credentials::Credentials;
use crate::registry::{ImageRef, Platform, loopback_port};
use crate::terminal;

/// How long it may take until the ports of a container that runs are this host's, too, and how often that is looked at.
const PUBLISHING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Run a container from an image, for any architecture that runs here
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
#[command(after_help = "\
Exit status: the container's own; 126 if its program cannot be run, 127 if there is no such program, and for what mvm
itself cannot do 1, 2 or 3 (see mvm --help). Ctrl-C and SIGTERM go to the container; one that has not ended ten seconds
later, or at the second Ctrl-C, is killed.")]
pub struct Args {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Pass stdin to the container
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Give it a terminal, which is this one where there is one
    #[arg(long, short = 't')]
    tty: bool,
    /// Let it go on by itself, and print its name
    #[arg(long, short = 'd')]
    detach: bool,
    /// What the container is called [default: a name of its own]
    #[arg(long)]
    name: Option<String>,
    /// Set a variable; KEY alone takes its value from here
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Set the variables in this file, one a line, before those of --env
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// What the container takes its machine to be called [default: its id]
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,
    /// Publish a TCP port of the container on 127.0.0.1
    #[arg(long = "publish", short = 'p', value_name = "HOST:CONTAINER")]
    publish: Vec<PublishedPort>,
    /// A directory that outlives the container: a volume's by its name, or one without
    #[arg(long = "volume", short = 'v', value_name = "[NAME:]/PATH[:ro]")]
    volumes: Vec<Volume>,
    /// Where its program starts
    #[arg(long, short = 'w', value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// Who its program is
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The program to run instead of the image's own; empty for none, so that COMMAND is one
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Its network: bridge, host (the guest's), none, one of the builder's by its name, or container:NAME
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Which platform of the image, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t)]
    pull: PullPolicy,
    /// Print help; -h is --hostname here, as with Docker
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// NAME, NAME:TAG or NAME@sha256:DIGEST
    image: ImageRef,
    /// What to run in it, instead of the image's own command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    fn request(self, value_of: impl Fn(&str) -> Option<String>) -> Result<Request, EnvFileError> {
        let mut env = Vec::new();
        for file in &self.env_files {
            env.extend(env_file::read(file)?);
        }
        env.extend(self.env);
        Ok(Request {
            image: self.image,
            command: self.command,
            env: env.iter().filter_map(|pair| variable(pair, &value_of)).collect(),
            hostname: self.hostname,
            ports: self.publish,
            held: Vec::new(),
            platform: self.platform,
            remove: self.rm,
            stdin: self.interactive,
            terminal: self.tty.then(|| Terminal { size: terminal::size() }),
            detached: self.detach,
            name: self.name,
            volumes: self.volumes,
            working_directory: self.workdir,
            user: self.user,
            entrypoint: self.entrypoint,
            network: self.network,
            pull: self.pull,
        })
    }
}

/// `KEY=VALUE` as it is; `KEY` with the value that it has here, and left out when it has none, as Docker does it.
fn variable(pair: &str, value_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    if pair.contains('=') {
        return Some(pair.to_owned());
    }
    value_of(pair).map(|value| format!("{pair}={value}"))
}

#[derive(Debug, thiserror::Error)]
#[error("-i and -t together want a terminal, and standard input is none; leave -t out")]
struct NoTerminal;

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.tty && args.interactive && !args.detach && !terminal::is_stdin() {
        return Err(Failure::usage(NoTerminal));
    }
    if let Some(name) = &args.name {
        super::called::check_free(context, name)?;
    }
    let target = Target::of(context).map_err(Failure::usage)?;
    let mut request = args.request(|key| std::env::var(key).ok()).map_err(Failure::usage)?;
    if !request.ports.is_empty() {
        let published = target.published().await;
        request.held = published.iter().filter(|port| port.problem.is_none()).map(|port| port.port).collect();
    }
    let builder = Builder::connect(&target.socket()).await.map_err(explain)?;
    // The builder pulls in the guest: a registry on the host's loopback has to be reachable from there meanwhile.
    let _registry = target.open_ports(loopback_port(&request.image).into_iter().collect()).await?;
    let credential = Credentials::from_env().for_registry(request.image.registry())?;
    let mut watcher = PullLines::default();
    let mut signals = Signals::listen()?;
    if request.detached {
        let started =
            docker::start_detached(&builder, &request, credential.as_ref(), &mut signals, &mut watcher);
        return match started.await.map_err(explain)? {
            Ok(name) => {
                until_published(&target, &builder, &request.ports, &name).await;
                print_line(name)
            }
            Err(signal) => Err(Failure::Status(signal.exit_status())),
        };
    }
    let ended = docker::run(&builder, &request, credential.as_ref(), &mut signals, &mut watcher);
    let ended = ended.await.map_err(explain)?;
    finish(ended)
}

/// Whoever is told the name may use the ports at once.
async fn until_published(target: &Target, builder: &Builder, ports: &[PublishedPort], name: &str) {
    let deadline = Instant::now() + PUBLISHING;
    // Another daemon's are not ours to publish.
    while !ports.is_empty() && matches!(target, Target::Instance(_)) && Instant::now() < deadline {
        let published = target.published().await;
        let of = |port: &PublishedPort| published.iter().find(|found| found.port == port.host);
        let found: Vec<_> = ports.iter().filter_map(of).collect();
        if found.len() == ports.len() {
            for problem in found.iter().filter_map(|port| port.problem.as_ref()) {
                eprintln!("{problem}");
            }
            return;
        }
        if !builder.containers(false).await.is_ok_and(|running| running.iter().any(|one| one.name == name)) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn explain(error: docker::Error) -> Failure {
    match error {
        error if error.is_no_machine() => Failure::no_machine(error),
        docker::Error::NotStarted { status, .. } => {
            eprintln!("mvm: {error}");
            Failure::Status(status)
        }
        error => error.into(),
    }
}

fn finish(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Exited { status: 0, .. } | Ended::Left => Ok(()),
        Ended::Exited { status, exec_format_error } => {
            if exec_format_error {
                eprintln!(
                    "mvm: a program of the image is for a processor that does not run here; `mvm status` shows which do"
                );
            }
            Err(Failure::Status(status))
        }
        Ended::Signaled(signal) => Err(Failure::Status(signal.exit_status())),
    }
}

/// Shows a pull on stderr: one line in a log, a line that changes on a terminal.
#[derive(Debug, Default)]
struct PullLines {
    started: Option<Instant>,
    shown: Option<Instant>,
    bytes: u64,
}

impl PullWatcher for PullLines {
    fn started(&mut self, image: &ImageRef, platform: Option<&Platform>) {
        self.started = Some(Instant::now());
        match platform {
            Some(platform) => eprintln!("pulling {image} for {platform}"),
            None => eprintln!("pulling {image}"),
        }
    }

    fn progress(&mut self, done: u64, total: u64) {
        self.bytes = total;
        let due = self.shown.is_none_or(|shown| shown.elapsed() > Duration::from_millis(200));
        if total > 0 && due && stderr().is_terminal() {
            self.shown = Some(Instant::now());
            let _ = write!(stderr(), "\r{} of {}\x1b[K", megabytes(done), megabytes(total));
        }
    }

    fn ended(&mut self) {
        let clear = if self.shown.is_some() { "\r\x1b[K" } else { "" };
        let seconds = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let size = if self.bytes > 0 { format!("{} ", megabytes(self.bytes)) } else { String::new() };
        eprintln!("{clear}pulled {size}in {seconds:.1} s");
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, megabytes, variable};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_follows_the_image_belongs_to_the_container() {
        let line = Line::try_parse_from(["run", "--rm", "-e", "A=1", "busybox", "sh", "--rm", "-e"]).unwrap();
        assert_eq!(line.args.command, ["sh", "--rm", "-e"]);
        assert_eq!(line.args.env, ["A=1"]);
        assert!(line.args.rm);
    }

    #[test]
    fn the_file_of_variables_comes_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=file\nHOME\nUNSET\n").unwrap();
        let path = file.path().to_str().unwrap();
        let words = ["run", "-e", "A=1", "--env-file", path, "-h", "box", "busybox"];
        let request =
            Line::try_parse_from(words).unwrap().args.request(|key| (key == "HOME").then(|| "/h".to_owned()));
        let request = request.unwrap();
        assert_eq!(request.env, ["A=file", "HOME=/h", "A=1"]);
        assert_eq!(request.hostname.as_deref(), Some("box"));
    }

    #[test]
    fn unknown_flags_are_refused_by_name() {
        let error = Line::try_parse_from(["run", "--privileged", "busybox"]).err().unwrap().to_string();
        assert!(error.starts_with("error: unexpected argument '--privileged' found"), "{error}");
    }

    #[test]
    fn a_variable_without_value_takes_ours() {
        let ours = |key: &str| (key == "HOME").then(|| "/h".to_owned());
        assert_eq!(variable("HOME", ours).as_deref(), Some("HOME=/h"));
        assert_eq!(variable("HOME=", ours).as_deref(), Some("HOME="));
        assert_eq!(variable("NOT_HERE", ours), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(megabytes(2_230_785), "2.2 MB");
        assert_eq!(megabytes(0), "0.0 MB");
    }
}
