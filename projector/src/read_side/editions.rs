//! Which build of a read model is read, and where its tables are.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor};

/// One build of a read model from the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, FromRow)]
pub struct Edition {
    /// The model's `NAME`, such as `task-board`.
    pub model: String,
    /// From 1, in the order in which they were made.
    #[sqlx(rename = "edition")]
    pub number: i32,
    /// The model's `VERSION` that it was built with; code of another version cannot read its tables.
    pub version: i32,
}

/// Told on [`CHANNEL`](super::CHANNEL) after another edition of a model was swapped in, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditionSwapped {
    pub model: String,
    /// The edition that is read from now on. A rollback's is older than the one before.
    pub swapped_to: i32,
}

impl Edition {
    /// The Postgres schema that holds its tables, such as `rm_task_board_e1`.
    pub fn schema(&self) -> String {
        format!("rm_{}_e{}", self.model.replace('-', "_"), self.number)
    }

    /// Lets unqualified names mean this edition's tables until the transaction ends.
    pub async fn enter(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query("select set_config('search_path', $1, true)")
            .bind(self.schema())
            .execute(transaction)
            .await?;
        Ok(())
    }
}

/// The edition of this model that is to be read; `None` until the projector has made one.
pub async fn active_edition(
    postgres: impl PgExecutor<'_>,
    model: &str,
) -> Result<Option<Edition>, sqlx::Error> {
    sqlx::query_as(
        "select model, edition, version from annals.editions
         join annals.active_editions using (model, edition)
         where model = $1",
    )
    .bind(model)
    .fetch_optional(postgres)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edition_has_a_schema_of_its_own() {
        let edition = Edition {
            model: "task-board".into(),
            number: 12,
            version: 3,
        };
        assert_eq!(edition.schema(), "rm_task_board_e12");
    }
}
