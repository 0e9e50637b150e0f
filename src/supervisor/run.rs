//! One machine, from its start to its end.

mod again;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use protocol::agent::event::Event as Happened;
use protocol::agent::{BootFailed, ServiceChanged};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use vmm::control::{ChannelError, FromMachine, MachineSender, Outcome, ToMachine};

use again::{Again, FIRST_WORD};

use super::board::Board;
use super::builder_check::{builder_answers, connect};
use super::clock::{ClockWatch, LOOK};
use super::console::{damage, last_lines};
use super::following::{self, News};
use super::leases::Leases;
use super::log_files::{LogFiles, is_file_name, path_of};
use super::machine::{Launch, Machine};
use super::protocol::{Platform, Trouble, Usage};
use super::published;
use super::sockets::Sockets;
use crate::agent::Agent;
use crate::instance::{Paths, data_disk};
use crate::printable::printable;

/// A boot in which no stage ends for so long has failed.
const BOOT_SILENCE: Duration = Duration::from_secs(180);
/// How long the guest may take to begin with a shutdown: one that hangs never does.
const HEEDING: Duration = Duration::from_secs(60);
/// How long it may take from there: its steps, each of the two services in its turn, and some more for the disk.
const SHUTDOWN: Duration = protocol::SERVICE_STOP
    .saturating_mul(2)
    .saturating_add(protocol::ONSHUTDOWN)
    .saturating_add(Duration::from_secs(60));
/// How long the machine process may take to do what it is told; one that is stopped (SIGSTOP) or hangs does nothing.
const OBEDIENCE: Duration = Duration::from_secs(5);
/// How much later than passt's end the machine's own end may be seen, when that was the cause of it.
const NETWORK_GRACE: Duration = Duration::from_secs(15);
/// Refusals among so many first dials are logged: a guest that goes on asking does not fill the log.
const TOLD_DIALS: u32 = 100;
/// A service that ended so often before the builder was ready will not start.
const STARTS: u32 = 5;
/// When a guest that does not answer yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long the guest may take to say how full its disk is.
const ANSWER: Duration = Duration::from_secs(5);

/// What a machine needs of its supervisor.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub launch: Arc<Launch>,
    pub paths: Paths,
    pub board: Arc<Board>,
    pub leases: Leases,
}

#[derive(Debug)]
struct Run {
    around: Surroundings,
    sender: MachineSender,
    agent: Agent,
    news: mpsc::Sender<News>,
    /// Aborted with the machine.
    tasks: JoinSet<()>,
    /// They exist exactly while the builder is ready.
    sockets: Option<Sockets>,
    /// Follows dockerd's events. dockerd waits five seconds for such a connection to end before it ends itself.
    published: Option<AbortHandle>,
    /// How often it may still be started again; it has less time to its first word for that.
    again: Again,
    /// It has said one.
    was_heard: bool,
    was_ready: bool,
    stopping: bool,
    /// The machine process was told to kill the machine.
    killed: bool,
    /// For it had said nothing.
    was_silent: bool,
    /// When the next patience ends: with the boot, with the shutdown, with the machine process.
    deadline: Instant,
    /// How passt ended, and until when the machine may follow it: passt ends with the machine, and may be seen first.
    network_lost: Option<(Instant, String)>,
    /// How many ports of the host the guest asked for.
    dials: u32,
    trouble: Option<Trouble>,
}

/// How a machine ended.
#[derive(Debug)]
pub(super) enum End {
    /// As somebody asked; not orderly if it had to be killed for that.
    Stopped {
        orderly: bool,
    },
    Failed(Trouble),
}

/// Starts a machine and sees it to its end, which comes by itself or by `down`.
pub(super) async fn run(around: Surroundings, down: watch::Receiver<bool>) -> End {
    let mut again = Again::on(&around.launch.engine);
    loop {
        around.board.starting();
        let machine = match Machine::start(&around.launch, &around.paths).await {
            Ok(machine) => machine,
            Err(error) => return End::Failed(trouble(&around, error.to_string(), Vec::new())),
        };
        let (news, receiver) = mpsc::channel(64);
        let mut run = Run::new(around.clone(), machine.sender.clone(), news, again);
        run.follow_guest();
        let end = run.attend(machine, receiver, down.clone()).await;
        let Some((why, left)) = run.fault_of_qemu(&end) else { return run.finish(end) };
        tracing::warn!("the guest {why}: QEMU is started again");
        again = left;
    }
}

fn trouble(around: &Surroundings, reason: String, last_lines: Vec<String>) -> Trouble {
    Trouble { reason, last_lines, log: around.paths.logs().display().to_string() }
}

impl Run {
    fn new(around: Surroundings, sender: MachineSender, news: mpsc::Sender<News>, again: Again) -> Self {
        let patience = if again.after_silence > 0 { FIRST_WORD } else { BOOT_SILENCE };
        let through = sender.clone();
        let agent = Agent::over(move || connect(through.clone(), protocol::ports::AGENT));
        Self {
            around,
            sender,
            agent,
            news,
            tasks: JoinSet::new(),
            sockets: None,
            published: None,
            again,
            was_heard: false,
            was_ready: false,
            stopping: false,
            killed: false,
            was_silent: false,
            deadline: Instant::now() + patience,
            network_lost: None,
            dials: 0,
            trouble: None,
        }
    }

    /// The loop: returns why the machine ended.
    async fn attend(
        &mut self,
        mut machine: Machine,
        mut news: mpsc::Receiver<News>,
        mut down: watch::Receiver<bool>,
    ) -> Outcome {
        let mut clock = ClockWatch::new(std::time::Instant::now(), SystemTime::now());
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            tokio::select! {
                message = machine.receiver.receive() => {
                    if let ControlFlow::Break(outcome) = self.told(message) {
                        break outcome;
                    }
                }
                Some(news) = news.recv() => self.hear(news).await,
                () = wait_for(&mut down), if !self.stopping => self.stop().await,
                () = tokio::time::sleep_until(self.deadline), if self.killed || self.stopping || !self.was_ready => {
                    if self.killed {
                        tracing::warn!("the machine process does not answer");
                        break Some(Outcome::Killed);
                    }
                    // On a busy host there may be news that only have not been heard yet.
                    match news.try_recv() {
                        Ok(news) => self.hear(news).await,
                        Err(_) => self.too_late().await,
                    }
                }
                status = machine.network.wait(), if self.network_lost.is_none() => {
                    let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    self.network_lost = Some((Instant::now() + NETWORK_GRACE, how));
                }
                () = tokio::time::sleep_until(self.network_deadline()), if self.misses_network() => {
                    // On a busy host its end may be there, and only not have been heard yet.
                    match tokio::time::timeout(Duration::ZERO, machine.receiver.receive()).await {
                        Ok(message) => if let ControlFlow::Break(outcome) = self.told(message) {
                            break outcome;
                        },
                        Err(_) => self.without_network().await,
                    }
                }
                _ = look.tick(), if self.was_ready && !self.stopping => {
                    if clock.is_due(std::time::Instant::now(), SystemTime::now()) {
                        self.set_clock();
                    }
                }
            }
        };
        // It may have said something that was not heard before its end.
        self.was_heard |= news.try_recv().is_ok();
        self.sockets = None;
        self.around.leases.detach();
        self.tasks.shutdown().await;
        let how = machine.wait().await;
        outcome.unwrap_or(Outcome::Failed(how))
    }

    /// What the machine process says; the end of it breaks off.
    fn told(&mut self, message: Result<Option<FromMachine>, ChannelError>) -> ControlFlow<Option<Outcome>> {
        match message {
            Ok(Some(FromMachine::Started { lacks })) => {
                self.around.board.set_lacks(lacks);
                self.around.board.stage("machine", self.around.board.elapsed_ms());
            }
            Ok(Some(FromMachine::Dial { id, port })) => self.dial(id, port),
            Ok(Some(FromMachine::Ended(outcome))) => return ControlFlow::Break(Some(outcome)),
            Ok(None) => return ControlFlow::Break(None),
            Err(error) => {
                tracing::warn!(%error, "the machine process talks nonsense");
                return ControlFlow::Break(None);
            }
        }
        ControlFlow::Continue(())
    }

    fn misses_network(&self) -> bool {
        self.network_lost.is_some() && self.trouble.is_none() && !self.stopping
    }

    fn network_deadline(&self) -> Instant {
        self.network_lost.as_ref().map_or_else(Instant::now, |(deadline, _)| *deadline)
    }

    /// passt has ended, and the machine goes on: builds would hang without it.
    async fn without_network(&mut self) {
        let how = self.network_lost.as_ref().map_or("", |(_, how)| how);
        let reason = format!(
            "the network process (passt) ended ({how}), and with it the guest's network; `mvm up` starts the machine again"
        );
        if !self.was_ready {
            return self.give_up(reason).await;
        }
        self.trouble = Some(trouble(&self.around, reason, Vec::new()));
        self.stop().await;
    }

    /// Tells what the end means.
    fn finish(self, outcome: Outcome) -> End {
        let Self { around, stopping, was_ready, trouble: known, .. } = self;
        tracing::info!(?outcome, stopping, "the machine ended");
        let asked = stopping && known.is_none();
        let console = || last_lines(&around.paths.console_log());
        let unexpected = |reason: String| {
            let lines = console();
            let reason = damage(&lines).map_or(reason, str::to_owned);
            End::Failed(trouble(&around, reason, lines))
        };
        match (known, outcome) {
            (Some(known), _) => End::Failed(known),
            // Before it is ready it holds nothing that an orderly end would save.
            (None, outcome) if asked => {
                End::Stopped { orderly: !was_ready || matches!(outcome, Outcome::PoweredOff) }
            }
            (None, Outcome::PoweredOff) => unexpected("the guest powered itself off".to_owned()),
            (None, Outcome::Killed) => unexpected("the machine was killed".to_owned()),
            (None, Outcome::Reset) => {
                unexpected("the guest reset itself, as after a kernel panic; see its console".to_owned())
            }
            (None, Outcome::Failed(reason)) => unexpected(reason),
        }
    }

    /// Follows the guest from the moment its agent listens.
    fn follow_guest(&mut self) {
        let (agent, news) = (self.agent.clone(), self.news.clone());
        self.tasks.spawn(async move { following::events(&agent, &news).await });
        let (agent, directory) = (self.agent.clone(), self.around.paths.logs());
        self.tasks.spawn(async move { following::logs(&agent, LogFiles::new(&directory)).await });
        let (agent, leases) = (self.agent.clone(), self.around.leases.clone());
        self.tasks.spawn(async move {
            // Answered when the guest listens. Before that no time is sent, which would be late when it comes.
            while agent.usage().await.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            if let Err(error) = agent.set_clock().await {
                tracing::warn!(%error, "cannot set the guest's clock");
            }
            leases.attach(agent).await;
        });
    }

    /// What the guest did, and the starts that are left then; where there are any, and its end was nobody's wish and has no other
    /// reason that is known.
    fn fault_of_qemu(&self, end: &Outcome) -> Option<(String, Again)> {
        if self.stopping || self.trouble.is_some() {
            return None;
        }
        match end {
            Outcome::Reset if !self.was_heard => self.again.after_reset(),
            _ if self.was_silent => self.again.after_silence(),
            _ => None,
        }
    }

    async fn hear(&mut self, news: News) {
        self.was_heard = true;
        if !self.was_ready && !self.stopping && !self.killed {
            self.deadline = Instant::now() + BOOT_SILENCE;
        }
        match news {
            News::Guest(Happened::Stage(stage)) => {
                let took_ms = stage.ended_ms.saturating_sub(stage.started_ms);
                self.around.board.stage(&printable(&stage.name), took_ms);
            }
            News::Guest(Happened::Ready(_)) => self.check_builder(),
            News::Guest(Happened::Platforms(found)) => {
                self.around.board.set_platforms(found.platforms.into_iter().map(Platform::from).collect());
            }
            News::Guest(Happened::Failed(failed)) => self.boot_failed(&failed).await,
            News::Guest(Happened::Service(change)) => self.service(&change).await,
            News::Guest(Happened::ShuttingDown(_)) => {
                self.sockets = None;
                if self.stopping && !self.killed {
                    self.deadline = Instant::now() + SHUTDOWN;
                }
            }
            News::BuilderAnswers(Ok(())) => self.ready().await,
            News::BuilderAnswers(Err(error)) => self.give_up(error.to_string()).await,
        }
    }

    /// A service that ends again and again does not become ready by waiting.
    async fn service(&mut self, change: &ServiceChanged) {
        tracing::info!(?change, "service");
        self.around.board.service(change.into());
        if self.was_ready || self.trouble.is_some() || change.restarts < STARTS {
            return;
        }
        let usage = tokio::time::timeout(ANSWER, self.agent.usage()).await;
        let warning = usage.ok().and_then(Result::ok).and_then(|usage| Usage::from(usage).disk_warning());
        let name = printable(&change.name);
        let mut reason = format!(
            "the service {name} does not start: it ended {} times, the last time with {}",
            change.restarts,
            printable(&change.last_exit)
        );
        if let Some(warning) = warning {
            reason = format!("{warning} ({reason})");
        }
        let log =
            if is_file_name(&name) { path_of(&self.around.paths.logs(), &name) } else { PathBuf::new() };
        self.trouble = Some(trouble(&self.around, reason, last_lines(&log)));
        self.kill().await;
    }

    fn check_builder(&mut self) {
        let (sender, news) = (self.sender.clone(), self.news.clone());
        self.tasks.spawn(async move {
            let answer = builder_answers(&sender).await;
            let _ = news.send(News::BuilderAnswers(answer)).await;
        });
    }

    async fn ready(&mut self) {
        if self.stopping || self.killed || self.was_ready {
            return;
        }
        match Sockets::open(&self.around.paths, &self.sender).await {
            Ok(sockets) => self.sockets = Some(sockets),
            Err(error) => return self.give_up(error.to_string()).await,
        }
        if let Err(error) = data_disk::keep(&self.around.paths) {
            return self.give_up(format!("cannot note that the data disk is in use: {error}")).await;
        }
        self.was_ready = true;
        self.around.board.ready();
        let (socket, sender) = (self.around.paths.docker_socket(), self.sender.clone());
        let board = Arc::clone(&self.around.board);
        self.published =
            Some(self.tasks.spawn(async move { published::follow(&socket, sender, board).await }));
    }

    async fn boot_failed(&mut self, failed: &BootFailed) {
        let reason =
            format!("the boot failed at {}: {}", printable(&failed.stage), printable(&failed.reason));
        let mut lines: Vec<String> = failed.last_lines.iter().map(|line| printable(line)).collect();
        if lines.is_empty() {
            // A step of init's own prints nothing; the kernel may have.
            lines = last_lines(&self.around.paths.console_log());
        }
        self.trouble = Some(trouble(&self.around, reason, lines));
        self.kill().await;
    }

    /// Ends the machine because it is of no use.
    async fn give_up(&mut self, reason: String) {
        if self.trouble.is_none() && !self.stopping {
            self.trouble = Some(trouble(&self.around, reason, last_lines(&self.around.paths.console_log())));
        }
        self.kill().await;
    }

    async fn stop(&mut self) {
        self.stopping = true;
        self.deadline = Instant::now() + HEEDING;
        self.around.board.stopping();
        self.sockets = None;
        if let Some(published) = self.published.take() {
            published.abort();
        }
        for guest_port in [protocol::ports::DOCKER, protocol::ports::BUILDKIT, protocol::ports::AGENT] {
            self.tell(&ToMachine::Unlisten { guest_port }).await;
        }
        if !self.was_ready {
            // Nothing of value runs yet, and the agent may not even listen.
            return self.kill().await;
        }
        let agent = self.agent.clone();
        self.tasks.spawn(async move {
            if let Err(error) = agent.shutdown().await {
                tracing::warn!(%error, "cannot ask the guest to shut down");
            }
        });
    }

    async fn too_late(&mut self) {
        if self.stopping {
            tracing::warn!("the guest did not power off in time: killed");
            self.kill().await;
        } else if !self.was_heard && self.again.after_silence > 0 {
            self.was_silent = true;
            self.kill().await;
        } else {
            self.give_up(format!("no stage of the boot has ended for {} s", BOOT_SILENCE.as_secs())).await;
        }
    }

    async fn kill(&mut self) {
        self.tell(&ToMachine::Kill).await;
        self.killed = true;
        self.deadline = Instant::now() + OBEDIENCE;
    }

    /// A machine process that takes nothing any more is found out by its deadline.
    async fn tell(&self, message: &ToMachine) {
        let _ = tokio::time::timeout(OBEDIENCE, self.sender.send(message, None)).await;
    }

    fn dial(&mut self, id: u64, port: u32) {
        self.dials = self.dials.saturating_add(1);
        let is_told = self.dials <= TOLD_DIALS;
        let (ports, sender) = (self.around.leases.ports.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let sent = match ports.dial(port).await {
                Ok(stream) => sender.send(&ToMachine::Dialed { id }, Some(stream)).await,
                Err(error) => {
                    if is_told {
                        tracing::info!(%error, port, "the guest was refused a port of the host");
                    }
                    sender.send(&ToMachine::Refused { id }, None).await
                }
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "the machine is gone");
            }
        });
        // Ended tasks are only forgotten when somebody looks.
        while self.tasks.try_join_next().is_some() {}
    }

    fn set_clock(&mut self) {
        let agent = self.agent.clone();
        self.tasks.spawn(async move {
            match agent.set_clock().await {
                Ok(moved) if moved.abs() > 500 => tracing::info!(moved_ms = moved, "set the guest's clock"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "cannot set the guest's clock"),
            }
        });
    }
}

async fn wait_for(down: &mut watch::Receiver<bool>) {
    if down.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
