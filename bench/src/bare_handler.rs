//! The limits of the HTTP API.
//!
//! The bare handler is axum as it comes, with a handler that parses the same body and answers
//! it: no token, no limits, no metrics. The stack is a command's whole way over HTTP, from its
//! token to its answer, with nothing where the shard would decide and append.

use std::path::Path as File;

use annals::http::{Accepted, CommandRequest, Path, Problem};
use axum::{
    Extension, Json, Router,
    routing::{get, post},
};
use command_service::Acceptance;
use event_log::Position;
use kernel::{StreamId, StreamVersion};
use serde::{Deserialize, Serialize};
use service_kit::{DevKey, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Result, role::READY};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignTask {
    assignee: String,
}

/// Serves until the process is ended.
pub async fn serve(address: &str) -> Result<()> {
    let assign = async |axum::extract::Path(_): axum::extract::Path<String>,
                        Json(body): Json<AssignTask>| { Json(body) };
    let listener = TcpListener::bind(address).await?;
    Ok(axum::serve(listener, routes(post(assign))).await?)
}

/// The same behind everything that every command passes; tokens are those of this key.
pub async fn serve_stack(address: &str, key: &File) -> Result<()> {
    let verifier = DevKey::load_or_create(key)?.verifier();
    let router = routes(post(assign)).layer(Extension(verifier));
    let server = Server::bind(address).await?;
    server.serve(router, CancellationToken::new()).await;
    Ok(())
}

async fn assign(
    Path(id): Path<String>,
    request: CommandRequest<AssignTask>,
) -> std::result::Result<Accepted, Problem> {
    request.identity.require_any(&["manager"])?;
    let stream = StreamId::new(&request.identity.tenant, "task", &id)
        .map_err(|malformed| Problem::invalid_field("id", malformed))?;
    Ok(Accepted::new(Acceptance {
        stream,
        version: StreamVersion(1),
        events: 1,
        position: Some(Position {
            topic: "annals.tasks.events.http".into(),
            partition: 0,
            offset: 1_000_000,
        }),
        repeated: false,
    }))
}

fn routes(assign: axum::routing::MethodRouter) -> Router {
    Router::new()
        .route("/v1/tasks/{id}/assign", assign)
        .route(READY, get(async || ""))
}
