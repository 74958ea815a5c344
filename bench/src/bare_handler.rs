//! The limit of the HTTP API: axum as it comes, with a handler that parses the same body and
//! answers it.

use axum::{
    Json, Router,
    extract::Path,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Result, role::READY};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignTask {
    assignee: String,
}

/// Serves until the process is ended.
pub async fn serve(address: &str) -> Result<()> {
    let assign = async |Path(_): Path<String>, Json(body): Json<AssignTask>| Json(body);
    let router = Router::new()
        .route("/v1/tasks/{id}/assign", post(assign))
        .route(READY, get(async || ""));
    let listener = TcpListener::bind(address).await?;
    Ok(axum::serve(listener, router).await?)
}
