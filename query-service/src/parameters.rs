//! What stands behind the `?`.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;
use service_kit::Problem;

/// The filter of a query; 422 `invalid-field` if a parameter does not parse, is missing, or is
/// there twice.
///
/// Leave `deny_unknown_fields` out of `T`: the parameters of [`PageParams`](crate::PageParams)
/// and the position stand beside it. What the route does not declare in its `params(…)` is
/// refused before it comes here.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Parses those parameters that `T` knows.
pub(crate) fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|error| {
        let message = error.inner().to_string();
        match field_error(&message) {
            Some((field, complaint)) => Problem::invalid_field(field, complaint),
            None => Problem::invalid_field(
                error.path().to_string(),
                format_args!("is not valid: {}", shortened(&message)),
            ),
        }
    })
}

/// The field that serde names in its message instead of in the path.
fn field_error(message: &str) -> Option<(&str, &'static str)> {
    [
        ("missing field `", "is missing"),
        ("duplicate field `", "is there twice"),
    ]
    .into_iter()
    .find_map(|(start, complaint)| {
        let (field, _) = message.strip_prefix(start)?.split_once('`')?;
        Some((field, complaint))
    })
}

/// serde quotes what it found, which may be long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Filter {
        since: u32,
        done: Option<bool>,
        text: Option<String>,
    }

    #[test]
    fn parameters_of_others_are_passed_over() {
        let filter: Filter = parse("limit=5&since=3&text=a%20%26%20b").unwrap();
        assert_eq!((filter.since, filter.done), (3, None));
        assert_eq!(filter.text.as_deref(), Some("a & b"));
    }

    #[test]
    fn a_parameter_that_is_wrong_is_named() {
        for (query, field) in [
            ("", "since"),
            ("since=x", "since"),
            ("since=1&since=2", "since"),
            ("since=1&done=maybe", "done"),
            ("since=-1", "since"),
        ] {
            let problem = parse::<Filter>(query).unwrap_err();
            let problem = serde_json::to_value(problem).unwrap();
            assert_eq!(problem["code"], "invalid-field", "{query}: {problem}");
            assert_eq!(problem["field"], field, "{query}: {problem}");
        }
    }
}
