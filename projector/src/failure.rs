//! Errors as one line for people.

use std::{error::Error, iter};

use service_kit::problem::told_once;
use sqlx::error::DatabaseError;

/// The error and its causes, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    told_once(iter::from_fn(|| {
        let error = next?;
        let ours = error.downcast_ref::<sqlx::Error>();
        match ours.and_then(sqlx::Error::as_database_error) {
            // sqlx adds the line of Postgres' own source code, there and in the source.
            Some(postgres) => {
                next = None;
                Some(said(postgres))
            }
            None => {
                next = error.source();
                Some(error.to_string())
            }
        }
    }))
}

fn said(postgres: &dyn DatabaseError) -> String {
    match postgres.code().is_some_and(|code| code.starts_with("22")) {
        true => unquoted(postgres.message()),
        false => postgres.message().to_owned(),
    }
}

/// Of what is wrong with a value without the value, which may be personal: it is in the event.
fn unquoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            format!("{}\"…\"{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_value_is_said_without_it() {
        for (message, expected) in [
            (
                r#"invalid input syntax for type uuid: "ada "the" first""#,
                r#"invalid input syntax for type uuid: "…""#,
            ),
            (
                r#"value "4711" is out of range for type integer"#,
                r#"value "…" is out of range for type integer"#,
            ),
            ("division by zero", "division by zero"),
        ] {
            assert_eq!(unquoted(message), expected);
        }
    }
}
