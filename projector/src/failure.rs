//! Errors as one line for people.

use std::error::Error;

/// The error and its causes, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = told(error);
    let mut source = error.source();
    while let Some(error) = source {
        let cause = told(error);
        // Some errors already repeat their cause.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

/// Of what Postgres says, its message: sqlx adds the line of Postgres' own source code.
fn told(error: &(dyn Error + 'static)) -> String {
    let ours = error.downcast_ref::<sqlx::Error>();
    let database = ours.and_then(sqlx::Error::as_database_error);
    let postgres = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    match (database, postgres) {
        (Some(database), _) => database.message().to_owned(),
        (None, Some(postgres)) => postgres.message().to_owned(),
        (None, None) => error.to_string(),
    }
}
