//! `/v1/metadata`: what clients ask to know whom they talk to.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Answer;
use crate::Registry;

pub(super) async fn id(State(registry): State<Registry>) -> Answer<Value> {
    let identity = registry.identity().await?;
    Ok(Json(json!({
        "id": identity,
        "scope": {
            "path": [],
            "clusters": {"kafka-cluster": "", "schema-registry-cluster": identity}
        }
    })))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "commitId": "annals"}))
}
