//! One container, from its making to its removal.

use std::hash::{BuildHasher, RandomState};

use bollard::errors::Error as Api;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::pull::{PullPolicy, PullWatcher};
use super::{Builder, Error, Request, error, ports};
use crate::registry::credentials::Credential;

/// A container by a name that was chosen before it was made, so that it can be removed even if the daemon's answer to
/// its making never arrived.
#[derive(Debug)]
pub(super) struct Container {
    builder: Builder,
    name: String,
}

impl Container {
    pub(super) fn new(builder: &Builder) -> Self {
        // The hasher's keys are random.
        let name = format!("mvm-{:012x}", RandomState::new().hash_one(()) >> 16);
        Self { builder: builder.clone(), name }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes it, and pulls its image first where the builder has none for the platform.
    pub(super) async fn create(
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
        match self.builder.client.create_container(Some(options.build()), body(request)).await {
            // Its warnings are about a foreign platform, which is what mvm is for, and the guest's own settings.
            Ok(_) => Ok(true),
            Err(Api::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(source) => Err(Error::from_api("create the container", source)),
        }
    }

    pub(super) async fn start(&self, request: &Request) -> Result<(), Error> {
        let started = self.builder.client.start_container(&self.name, None).await;
        started.map_err(|source| match error::message(&source) {
            Some((_, reason)) => not_started(request, &reason),
            None => Error::Lost { source: source.into() },
        })
    }

    /// Sends a signal; that the container has ended by now is no error.
    pub(super) async fn kill(&self, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match self.builder.client.kill_container(&self.name, Some(options)).await {
            Ok(()) | Err(Api::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(source) => Err(Error::from_api("send the container a signal", source)),
        }
    }

    /// Removes it, running or not; that it is gone, or going, is no error.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.builder.client.remove_container(&self.name, Some(options)).await {
            Ok(()) | Err(Api::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(source) => Err(Error::from_api("remove the container", source)),
        }
    }
}

fn body(request: &Request) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(request.image.written().to_owned()),
        cmd: (!request.command.is_empty()).then(|| request.command.clone()),
        env: (!request.env.is_empty()).then(|| request.env.clone()),
        attach_stdin: Some(request.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(request.stdin),
        stdin_once: Some(request.stdin),
        exposed_ports: ports::exposed(&request.ports),
        host_config: Some(HostConfig {
            // The daemon removes it, also when this command has not lived to see its end.
            auto_remove: Some(request.remove),
            port_bindings: ports::bindings(&request.ports),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The daemon puts what it was doing before what went wrong; the exit statuses are those of a shell.
fn not_started(request: &Request, reason: &str) -> Error {
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
