//! For a context's read models.

pub use event_log::Recorded;
pub use projector::{ReadModel, testing};
pub use sqlx::PgConnection;
