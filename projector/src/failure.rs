//! Errors as one line for people.

use std::error::Error;

/// The error and its causes, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let ours = error.downcast_ref::<sqlx::Error>();
        let cause = match ours.and_then(sqlx::Error::as_database_error) {
            // sqlx adds the line of Postgres' own source code, there and in the source.
            Some(postgres) => {
                next = None;
                postgres.message().to_owned()
            }
            None => {
                next = error.source();
                error.to_string()
            }
        };
        // Some errors already repeat their cause.
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
