//! Media types: clients may ask in any of three, and get the one that they accept.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure;

/// The first is the one for clients that do not care.
pub(super) const TYPES: [&str; 3] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
];

/// Answers in the media type that the client accepts, and in the API's own form whatever axum has
/// refused by itself, such as a query that does not parse.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    let Some(accepted) = accepted(request.headers()) else {
        return failure::answer(406, "HTTP 406 Not Acceptable");
    };
    let response = next.run(request).await;
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|type_| type_ == TYPES[2]);
    let mut response = match response.status() {
        status if !is_json && (status.is_client_error() || status.is_server_error()) => {
            failure::answer(status.as_u16().into(), &format!("HTTP {status}"))
        }
        _ => response,
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(accepted));
    response
}

/// Whether a body says of itself that it is JSON, or says nothing.
pub(super) fn is_readable(headers: &HeaderMap) -> bool {
    let Some(type_) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let essence = essence(type_.to_str().unwrap_or_default());
    TYPES
        .into_iter()
        .chain(["application/octet-stream"])
        .any(|known| known.eq_ignore_ascii_case(essence))
}

pub(super) fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, TYPES[2])], text).into_response()
}

/// The type with the highest weight among those that we have; of equals the first.
fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let mut best: Option<(f32, &'static str)> = None;
    let mut asked = false;
    for range in headers
        .get_all(header::ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
    {
        asked = true;
        let known = match essence(range) {
            "*/*" | "application/*" => Some(TYPES[0]),
            name => TYPES
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(name)),
        };
        let weight = weight(range);
        if let Some(known) = known
            && weight > 0.0
            && best.is_none_or(|(most, _)| weight > most)
        {
            best = Some((weight, known));
        }
    }
    if asked {
        best.map(|(_, type_)| type_)
    } else {
        Some(TYPES[0])
    }
}

fn weight(range: &str) -> f32 {
    range
        .split(';')
        .skip(1)
        .find_map(|parameter| parameter.trim().strip_prefix("q="))
        .map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0))
}

fn essence(type_: &str) -> &str {
    type_.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_with_the_highest_weight_is_answered() {
        for (accept, expected) in [
            ("*/*", Some(TYPES[0])),
            ("application/json", Some(TYPES[2])),
            ("application/vnd.schemaregistry+json", Some(TYPES[1])),
            (
                "text/html, application/json;q=0.5, application/vnd.schemaregistry.v1+json;q=0.9",
                Some(TYPES[0]),
            ),
            ("text/html, */*;q=0.1", Some(TYPES[0])),
            ("application/json;q=0", None),
            ("text/html", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Some(TYPES[0]));
    }
}
