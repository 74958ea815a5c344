//! What the projector writes about its read models and the query service reads:
//! the tables of the schema `annals`, the names of the editions' own schemas,
//! and the notifications after each commit.

mod checkpoints;
mod editions;

pub use checkpoints::{CHANNEL, Checkpoint, CheckpointMoved, checkpoint, checkpoints};
pub use editions::{Edition, EditionSwapped, active_edition};

use sqlx::{PgPool, migrate::MigrateError};

/// Brings the tables of the platform up to date. Processes that do so at the same time wait for
/// one another; other migrators on the same database are not touched, since our tables and the
/// list of our migrations are in the schema `annals`.
pub async fn migrate(postgres: &PgPool) -> Result<(), MigrateError> {
    let mut migrator = sqlx::migrate!("../migrations/platform");
    migrator.create_schema("annals");
    migrator.dangerous_set_table_name("annals.migrations");
    // Not returned to the pool: if a migration fails, the migrator leaves its lock behind.
    let mut connection = postgres.acquire().await?.detach();
    migrator.run_direct(None, &mut connection, false).await
}
