//! What an author writes: events in, rows out.

use std::borrow::Cow;

use event_log::Recorded;
use kernel::Event;
use sqlx::PgConnection;

/// A read model: its tables, the events it takes, and the SQL between them.
///
/// Order holds within a partition only, so each column is written by the events of one stream
/// or by a commutative operation; joins happen in the query. There are no migrations: a changed
/// model gets a new `VERSION` and is built again from the log.
pub trait ReadModel: Send + Sync + 'static {
    /// Unique in the system, in kebab-case, at most 40 characters: `task-board`.
    const NAME: &'static str;
    /// From 1; raised when the tables, the SQL or the meaning of a column changes.
    const VERSION: u32;
    /// The contexts whose events it takes.
    const CONTEXTS: &'static [&'static str];
    /// The statements that make its tables, with unqualified names. Run once for each edition.
    const TABLES: &'static str;
    /// What this version has otherwise than the one before, on purpose: `table` or
    /// `table.column`. A rebuild does not compare it.
    const DIFFERS: &'static [&'static str] = &[];

    /// An enum of just the events and fields that it needs; others are passed over.
    type Event: Event;

    /// What an event changes, for those who follow it: the id of its stream unless the model says
    /// something else; nothing for `None`. Kept with the event's tenant and position in the
    /// edition's table `changes`, a name that no table of a model may have.
    fn changed_key(event: &Recorded<Self::Event>) -> Option<Cow<'_, str>> {
        Some(event.envelope.stream.id().into())
    }

    /// Brings events into the rows. The events come from one partition, in the order of their
    /// offsets, each exactly once as far as committed rows are concerned.
    ///
    /// `db` is in a transaction that moves the checkpoint too and that the caller ends; names
    /// without a schema are the model's own tables.
    ///
    /// # Errors
    /// Those of Postgres, as they are. The transaction is rolled back and tried again.
    fn project(
        events: &[Recorded<Self::Event>],
        db: &mut PgConnection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}
