//! One container, from its making to its removal.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bollard::errors::Error as Api;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RenameContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::pull::{PullPolicy, PullWatcher};
use super::{Builder, Error, Request, Volume, error, ports};
use crate::registry::credentials::Credential;

/// How long a busy daemon may take to make one that nobody wants any more.
const MAKING: Duration = Duration::from_secs(60);

/// A container by a name that was chosen before it was made, so that it can be removed even if the daemon's answer to
/// its making never arrived. The name that its user wants it gets only then: somebody else's may have that, which is not to be
/// removed.
#[derive(Debug)]
pub(super) struct Container {
    builder: Builder,
    name: String,
    id: OnceLock<String>,
    /// Held while the daemon makes it, whether anybody waits for that or not.
    making: Arc<Mutex<()>>,
}

impl Container {
    pub(super) fn new(builder: &Builder) -> Self {
        // The hasher's keys are random.
        let name = format!("mvm-{:012x}", RandomState::new().hash_one(()) >> 16);
        Self { builder: builder.clone(), name, id: OnceLock::new(), making: Arc::default() }
    }

    /// What it is called as long as nothing else is known, and what it is known by once it is made.
    pub(super) fn key(&self) -> &str {
        self.id.get().unwrap_or(&self.name)
    }

    /// What its user calls it.
    pub(super) fn name<'a>(&'a self, request: &'a Request) -> &'a str {
        request.name.as_deref().unwrap_or(&self.name)
    }

    /// Makes it, and pulls its image first where the builder has none for the platform.
    pub(super) async fn create(
        &self,
        request: &Request,
        credential: Option<&Credential>,
        watcher: &mut dyn PullWatcher,
    ) -> Result<(), Error> {
        self.make(request, credential, watcher).await?;
        let Some(name) = &request.name else { return Ok(()) };
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        let named = self.builder.client.rename_container(self.key(), options).await;
        named.map_err(|source| Error::from_api("give the container its name", source))
    }

    async fn make(
        &self,
        request: &Request,
        credential: Option<&Credential>,
        watcher: &mut dyn PullWatcher,
    ) -> Result<(), Error> {
        let image = &request.image;
        let platform = request.platform.as_ref();
        if request.pull == PullPolicy::Always {
            self.builder.pull(image, platform, credential, watcher).await?;
        } else if self.try_create(request).await? {
            return Ok(());
        } else if request.pull == PullPolicy::Never {
            return Err(Error::NotPulled { image: image.written().to_owned() });
        } else {
            self.builder.pull(image, platform, credential, watcher).await?;
        }
        if self.try_create(request).await? {
            return Ok(());
        }
        // A name by digest gets that one manifest, whatever platform was asked for.
        Err(self.builder.platform_missing(image, platform, credential).await)
    }

    /// False if the builder has no such image, or not for the platform.
    async fn try_create(&self, request: &Request) -> Result<bool, Error> {
        let mut options = CreateContainerOptionsBuilder::new().name(&self.name);
        if let Some(platform) = &request.platform {
            options = options.platform(&platform.to_string());
        }
        let (client, options, body) = (self.builder.client.clone(), options.build(), body(request));
        let making = Arc::clone(&self.making).lock_owned().await;
        // It goes on although this is given up: one that is made then has to be removed.
        let made = tokio::spawn(async move {
            let made = client.create_container(Some(options), body).await;
            drop(making);
            made
        });
        match made.await.map_err(Error::lost)? {
            // Its warnings are about a foreign platform, which is what mvm is for, and the guest's own settings.
            Ok(made) => {
                let _ = self.id.set(made.id);
                Ok(true)
            }
            Err(Api::DockerResponseServerError { status_code: 404, message }) if is_about_image(&message) => {
                Ok(false)
            }
            Err(source) => Err(Error::from_api("create the container", source)),
        }
    }

    pub(super) async fn start(&self, request: &Request) -> Result<(), Error> {
        let started = self.builder.client.start_container(self.key(), None).await;
        started.map_err(|source| match error::message(&source) {
            Some((_, reason)) => not_started(request, &reason),
            None => Error::Lost { source: source.into() },
        })
    }

    /// Sends a signal; that the container has ended by now is no error.
    pub(super) async fn kill(&self, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match self.builder.client.kill_container(self.key(), Some(options)).await {
            Ok(()) | Err(Api::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(source) => Err(Error::from_api("send the container a signal", source)),
        }
    }

    /// Its terminal has another size; that it has ended by now is no error.
    pub(super) async fn resize(&self, (rows, columns): (u32, u32)) {
        let number = |size: u32| i32::try_from(size).unwrap_or(i32::MAX);
        let options = ResizeContainerTTYOptionsBuilder::new().h(number(rows)).w(number(columns)).build();
        let _ = self.builder.client.resize_container_tty(self.key(), options).await;
    }

    /// Whether it runs.
    pub(super) async fn is_running(&self) -> bool {
        let found = self.builder.client.inspect_container(self.key(), None).await;
        found.is_ok_and(|found| found.state.and_then(|state| state.running).unwrap_or(false))
    }

    /// Removes it, running or not; that it is gone, or going, is no error.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let _made = timeout(MAKING, self.making.lock()).await;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.builder.client.remove_container(self.key(), Some(options)).await {
            Ok(()) | Err(Api::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(source) => Err(Error::from_api("remove the container", source)),
        }
    }
}

/// The daemon has no such image, or not for the platform. (A network may be missing, too.)
fn is_about_image(message: &str) -> bool {
    message.starts_with("No such image") || message.starts_with("image with reference")
}

fn body(request: &Request) -> ContainerCreateBody {
    let anonymous: Vec<_> = request.volumes.iter().filter_map(Volume::anonymous).map(str::to_owned).collect();
    let binds: Vec<_> = request.volumes.iter().filter_map(Volume::bind).collect();
    let size = request.terminal.map(|terminal| terminal.size);
    ContainerCreateBody {
        image: Some(request.image.written().to_owned()),
        cmd: (!request.command.is_empty()).then(|| request.command.clone()),
        // An empty one takes the image's own away.
        entrypoint: request.entrypoint.as_ref().map(|program| vec![program.clone()]),
        env: (!request.env.is_empty()).then(|| request.env.clone()),
        hostname: request.hostname.clone(),
        working_dir: request.working_directory.clone(),
        user: request.user.clone(),
        tty: Some(request.terminal.is_some()),
        attach_stdin: Some(request.stdin && !request.detached),
        attach_stdout: Some(!request.detached),
        attach_stderr: Some(!request.detached),
        open_stdin: Some(request.stdin),
        stdin_once: Some(request.stdin && !request.detached),
        volumes: (!anonymous.is_empty()).then_some(anonymous),
        exposed_ports: ports::exposed(&request.ports),
        host_config: Some(HostConfig {
            // The daemon removes it, also when this command has not lived to see its end.
            auto_remove: Some(request.remove),
            port_bindings: ports::bindings(&request.ports),
            binds: (!binds.is_empty()).then_some(binds),
            network_mode: request.network.clone(),
            console_size: size.map(|(rows, columns)| {
                [rows, columns].map(|size| usize::try_from(size).unwrap_or(0)).to_vec()
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The daemon puts what it was doing before what went wrong; the exit statuses are those of a shell.
fn not_started(request: &Request, reason: &str) -> Error {
    if let Some(error) = ports::refused(&request.ports, reason) {
        return error;
    }
    let status =
        if reason.contains("executable file not found") || reason.contains("no such file or directory") {
            127
        } else if reason.contains("permission denied") || reason.contains("exec format error") {
            126
        } else {
            return Error::Refused { what: "start the container", reason: reason.to_owned() };
        };
    let why = match reason.find("exec: ") {
        Some(at) => reason.get(at..).unwrap_or(reason),
        None => reason,
    };
    Error::NotStarted {
        program: request.command.first().cloned().unwrap_or_else(|| "its own command".to_owned()),
        image: request.image.written().to_owned(),
        reason: why.to_owned(),
        status,
    }
}
