//! The system as its users and operators have it: processes, HTTP, a real Kafka and Postgres.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod activate;
mod apicurio;
mod bad_input;
mod chaos;
mod crash;
mod following;
mod foreign_consumer;
mod foreign_records;
mod idempotency;
mod load;
mod migration;
mod nodes;
mod openapi;
mod outages;
mod path;
mod projector_chaos;
mod quarantine;
mod races;
mod raw_log;
mod refusals;
mod registry_alone;
mod registry_python;
mod replay;
mod rolling;
mod schema;
mod tenants;
mod up;

use e2e::TestApp;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The installation of the tests that kill nothing; each keeps to a company of its own.
async fn app() -> RwLockReadGuard<'static, TestApp> {
    shared().await.read().await
}

/// The same, for tests that want to be the only ones who append.
async fn app_alone() -> RwLockWriteGuard<'static, TestApp> {
    shared().await.write().await
}

async fn shared() -> &'static RwLock<TestApp> {
    static APP: OnceCell<RwLock<TestApp>> = OnceCell::const_new();
    APP.get_or_init(async || RwLock::new(TestApp::start().await))
        .await
}
