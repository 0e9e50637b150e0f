//! `moby.buildkit.secrets.v1.Secrets`: the secrets of a build, and no others.

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

use crate::builder::request::Secret;
use crate::chain::Chain;

/// Those that the user gave.
#[derive(Debug)]
pub(crate) struct Given(pub(crate) Vec<Secret>);

#[tonic::async_trait]
impl Secrets for Given {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        // Of two with one id, the last counts. A step may do without one that is not there, so this is an answer too.
        let found = self.0.iter().rev().find(|secret| secret.id == id);
        let secret = found.ok_or_else(|| Status::not_found(format!("secret {id}: not found")))?;
        let data = secret.read().map_err(|error| Status::unknown(Chain(&error).to_string()))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}
