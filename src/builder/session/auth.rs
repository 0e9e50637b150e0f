//! `moby.filesync.v1.Auth`: what the daemon shows to a registry. It asks for each registry when it needs to, and
//! fetches tokens itself: by refusing to be a token authority we tell it so. Else a guest could have this host ask any
//! address.

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tonic::{Request, Response, Status};

use crate::chain::Chain;
use crate::registry::credentials::{Credential, Credentials};

/// Answers from the user's Docker configuration.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Credentials);

fn no_authority<T>() -> Result<Response<T>, Status> {
    Err(Status::unavailable("the client leaves tokens to the builder"))
}

#[tonic::async_trait]
impl Auth for Keys {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let credentials = self.0.clone();
        // A credential helper is a program that may ask its user something.
        let found = tokio::task::spawn_blocking(move || credentials.for_registry(&host)).await;
        let found = found.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(match found.map_err(|error| Status::unknown(Chain(&error).to_string()))? {
            None => CredentialsResponse::default(),
            Some(Credential::Password { username, password }) => {
                CredentialsResponse { username, secret: password }
            }
            // Without a name, the secret is a refresh token.
            Some(Credential::IdentityToken(secret)) => {
                CredentialsResponse { username: String::new(), secret }
            }
        }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        no_authority()
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        no_authority()
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        no_authority()
    }
}
