//! Whether the address that this node tells others leads to itself.

use std::time::Duration;

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const PATH: &str = "/health/node";
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A process that is ending has the address a moment longer.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// This process, among all that ever had its address.
#[derive(Clone, Debug)]
pub(crate) struct Identity(String);

#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is the address of another node: each needs one of its own, which others reach it \
     at; see ANNALS_COMMANDS__ADVERTISE"
)]
pub struct AddressTaken {
    address: String,
}

impl Identity {
    pub fn new() -> Self {
        // Different for each process and moment; it need not be secret.
        let moment = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("{}/{}", std::process::id(), moment.as_nanos());
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string())
    }

    /// `GET /health/node`
    pub fn routes(&self) -> Router {
        let name = self.0.clone();
        Router::new().route(PATH, get(async move || name))
    }

    /// While this node's server runs: who answers at its address?
    pub async fn check(&self, address: &str) -> Result<(), AddressTaken> {
        for _ in 0..TRIES {
            match timeout(ANSWER_WITHIN, ask(address)).await {
                Ok(Some(name)) if name == self.0.as_bytes() => return Ok(()),
                Ok(Some(_)) => sleep(PAUSE).await,
                Ok(None) | Err(_) => {
                    tracing::warn!(
                        "{address} cannot be reached from here; other nodes must reach this one there"
                    );
                    return Ok(());
                }
            }
        }
        Err(AddressTaken {
            address: address.to_owned(),
        })
    }
}

async fn ask(address: &str) -> Option<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let url = format!("http://{address}{PATH}").parse().ok()?;
    let answer = client.get(url).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    Some(answer.into_body().collect().await.ok()?.to_bytes())
}
