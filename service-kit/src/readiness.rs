//! Whether a service can do its work, and if not, why: for people, balancers and tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

/// What the components of a service say about themselves. Clones share the state.
///
/// A service is ready when each of its components is.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    components: Mutex<BTreeMap<String, ComponentState>>,
    ready: watch::Sender<bool>,
}

/// One component's handle on the [`Readiness`] of its service.
#[derive(Clone, Debug)]
pub struct Component {
    name: String,
    readiness: Readiness,
}

/// The body of `GET /health/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    pub ready: bool,
    pub components: BTreeMap<String, ComponentState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ComponentState {
    pub ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has been so, and for this reason.
    pub since: DateTime<Utc>,
}

impl Readiness {
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            components: Mutex::default(),
            ready: watch::Sender::new(true),
        }))
    }

    /// The handle of a component, which is not ready, `starting`, until it says otherwise.
    /// Asked for twice, it is the same component.
    pub fn component(&self, name: &str) -> Component {
        let name = name.to_owned();
        let mut components = self.components();
        components
            .entry(name.clone())
            .or_insert_with(|| ComponentState {
                ready: false,
                reason: Some("starting".into()),
                since: SystemTime::now().into(),
            });
        self.publish(&components);
        Component {
            name,
            readiness: self.clone(),
        }
    }

    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Returns as soon as every component is ready.
    pub async fn until_ready(&self) {
        self.0
            .ready
            .subscribe()
            .wait_for(|ready| *ready)
            .await
            .expect("the sender lives as long as self");
    }

    pub fn report(&self) -> Report {
        let components = self.components().clone();
        Report {
            ready: components.values().all(|component| component.ready),
            components,
        }
    }

    /// `GET /health/live`, `/health/ready` and `/metrics`.
    pub fn routes(&self) -> Router {
        let readiness = self.clone();
        let ready = async move || {
            let report = readiness.report();
            let status = match report.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, Json(report))
        };
        Router::new()
            .route("/health/live", get(async || "alive\n"))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, ComponentState>> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        let components = &self.0.components;
        components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, components: &BTreeMap<String, ComponentState>) {
        let all_ready = components.values().all(|component| component.ready);
        self.0
            .ready
            .send_if_modified(|ready| std::mem::replace(ready, all_ready) != all_ready);
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Component {
    pub fn ready(&self) {
        self.change(None);
    }

    /// Each new reason is logged, so keep what changes all the time, such as counts, out of it.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.change(Some(reason.into()));
    }

    fn change(&self, reason: Option<String>) {
        let mut components = self.readiness.components();
        let state = components
            .get_mut(&self.name)
            .expect("a handle is made together with its component");
        if state.reason == reason {
            return;
        }
        let name = self.name.as_str();
        match &reason {
            None => tracing::info!(component = name, "{name} is ready"),
            Some(reason) => tracing::warn!(component = name, "{name} is not ready: {reason}"),
        }
        *state = ComponentState {
            ready: reason.is_none(),
            reason,
            since: SystemTime::now().into(),
        };
        self.readiness.publish(&components);
    }
}

async fn metrics() -> impl IntoResponse {
    let text = crate::prometheus::metrics_handle().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_when_each_component_is() {
        let readiness = Readiness::new();
        let kafka = readiness.component("kafka");
        let postgres = readiness.component("postgres");
        kafka.ready();
        assert!(!readiness.is_ready());
        postgres.ready();
        assert!(readiness.is_ready() && readiness.report().ready);
        kafka.not_ready("connection refused");
        assert!(!readiness.is_ready());
        let report = readiness.report();
        assert_eq!(
            report.components["kafka"].reason.as_deref(),
            Some("connection refused")
        );
        assert!(report.components["postgres"].ready);
    }

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let readiness = Readiness::new();
        let kafka = readiness.component("kafka");
        kafka.not_ready("connection refused");
        let before = readiness.report();
        kafka.not_ready("connection refused");
        readiness.component("kafka");
        assert_eq!(readiness.report(), before);
    }

    #[tokio::test]
    async fn readiness_can_be_waited_for() {
        let readiness = Readiness::new();
        let kafka = readiness.component("kafka");
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.until_ready().await }
        });
        kafka.ready();
        waiting.await.unwrap();
    }
}
