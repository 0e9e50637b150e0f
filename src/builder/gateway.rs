//! Asks BuildKit's frontend something instead of having it build (`moby.buildkit.v1.frontend.LLBBridge`).
//!
//! A solve without a frontend leaves it to its client what is done. It lasts until the client hands its result over, which here is
//! nothing: what is wanted is what the frontend says beside it.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::SolveRequest;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Says which solve a request belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// What the frontend says of the request, by its keys; what is no text is left out.
pub(super) async fn ask(
    channel: Channel,
    mut control: ControlClient<Channel>,
    request: SolveRequest,
) -> Result<HashMap<String, String>, Status> {
    let id = request.r#ref.clone();
    let question = frontend::SolveRequest {
        frontend: request.frontend.clone(),
        frontend_opt: request.frontend_attrs.clone(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..frontend::SolveRequest::default()
    };
    let empty = SolveRequest {
        frontend: String::new(),
        frontend_attrs: HashMap::new(),
        exporters: Vec::new(),
        exporter_deprecated: String::new(),
        exporter_attrs_deprecated: HashMap::new(),
        ..request
    };
    let mut bridge = LlbBridgeClient::new(channel);
    let asked = async move {
        let answer = bridge.solve(belonging(question, &id)?).await;
        let handed_over = frontend::ReturnRequest {
            result: Some(frontend::Result::default()),
            error: answer.as_ref().err().map(error),
        };
        // The solve ends with that, and it says what went wrong.
        let _ = bridge.r#return(belonging(handed_over, &id)?).await;
        answer
    };
    let (solved, answer) = tokio::join!(control.solve(empty), asked);
    let answer = match (solved, answer) {
        (_, Ok(answer)) => answer.into_inner(),
        (Err(error), Err(_)) | (Ok(_), Err(error)) => return Err(error),
    };
    let said = answer.result.map(|result| result.metadata).unwrap_or_default();
    Ok(said.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?))).collect())
}

fn belonging<T>(message: T, id: &str) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let id = id.parse().map_err(|_| Status::internal("the build's name is no header"))?;
    request.metadata_mut().insert(BUILD_ID, id);
    Ok(request)
}

fn error(status: &Status) -> bollard_buildkit_proto::google::rpc::Status {
    use prost::Message;
    let known = bollard_buildkit_proto::google::rpc::Status::decode(status.details()).unwrap_or_default();
    bollard_buildkit_proto::google::rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: known.details,
    }
}
