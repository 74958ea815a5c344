//! Request bodies: strict JSON, and the bytes as they came.

use std::time::Duration;

use axum::{
    Extension,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tower::layer::util::{Identity as NoLayer, Stack};

use crate::{ignored, problem::Problem};

/// Longest body that is accepted where no [`body_limit`] says otherwise: 256 KiB.
pub const DEFAULT_BODY_LIMIT: usize = 256 * 1024;

/// A client that takes longer to send its body is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an oversized body is read and thrown away, so that the client, still
/// sending, gets to see the answer instead of a reset connection.
const DISCARD_LIMIT: usize = 8 * 1024 * 1024;

/// A parsed body and its bytes, which the command side takes a fingerprint of.
///
/// Refuses with a [`Problem`]: another content type than JSON 415 `unsupported-media-type`,
/// a body over the limit 413 `too-large`, text that is not JSON 400 `malformed-json`, and
/// 422 `invalid-field` for a missing field, a wrong type, or a field that `T` does not
/// know, at any depth and whether or not `T` has `deny_unknown_fields` (only what serde
/// buffers, `flatten` and untagged enums, is left to `T`).
#[derive(Debug, Clone)]
pub struct Json<T> {
    pub value: T,
    pub raw: Bytes,
}

/// For the routes below this layer: the longest body that [`Json`] and axum's extractors accept.
pub fn body_limit(bytes: usize) -> Stack<DefaultBodyLimit, Stack<Extension<BodyLimit>, NoLayer>> {
    let ours = Stack::new(Extension(BodyLimit(bytes)), NoLayer::new());
    Stack::new(DefaultBodyLimit::max(bytes), ours)
}

/// Set by [`body_limit`].
#[derive(Clone, Copy)]
pub struct BodyLimit(usize);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body must be JSON",
            )
            .detail("send the header `Content-Type: application/json`"));
        }
        let limit = request.extensions().get::<BodyLimit>();
        let limit = limit.map_or(DEFAULT_BODY_LIMIT, |limit| limit.0);
        let raw = tokio::time::timeout(BODY_TIMEOUT, read(request, limit))
            .await
            .map_err(|_| {
                Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "request-timeout",
                    "The body did not arrive in time",
                )
            })??;
        Ok(Self {
            value: parse(&raw)?,
            raw,
        })
    }
}

/// Parses a body by the rules of [`Json`].
pub fn parse<T: DeserializeOwned>(raw: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    let parsed = ignored::deserialize(&mut deserializer)
        .and_then(|parsed| deserializer.end().map(|()| parsed));
    match parsed {
        Ok((value, unknown)) => match unknown.first() {
            None => Ok(value),
            Some(path) => Err(Problem::invalid_field(shortened(path), "is not known")),
        },
        Err(error) => Err(explain::<T>(raw, &error)),
    }
}

/// Parses once more, now keeping track of the path: only refused bodies pay for it.
fn explain<T: DeserializeOwned>(raw: &[u8], error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed-json",
            "The body is not well-formed JSON",
        )
        .detail(shortened(&error.to_string()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    let (path, message) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (String::new(), error.to_string()),
        Err(error) => (error.path().to_string(), error.inner().to_string()),
    };
    let message = message.split(" at line ").next().unwrap_or_default();
    let parent = path.trim_end_matches(['.', '?']);
    match field_error(message) {
        Some((field, complaint)) => {
            // For an unknown field the path ends in its name already.
            let parent = parent.strip_suffix(field).unwrap_or(parent);
            let parent = parent.trim_end_matches('.');
            let path = match parent {
                "" => field.to_owned(),
                parent => format!("{parent}.{field}"),
            };
            Problem::invalid_field(shortened(&path), complaint)
        }
        None if parent.is_empty() => Problem::invalid_field("body", is_not_valid(message)),
        None => Problem::invalid_field(shortened(parent), is_not_valid(message)),
    }
}

/// The field that serde names in its message instead of in the path.
fn field_error(message: &str) -> Option<(&str, &'static str)> {
    [
        ("missing field `", "is missing"),
        ("unknown field `", "is not known"),
        ("duplicate field `", "is there twice"),
    ]
    .into_iter()
    .find_map(|(start, complaint)| {
        let (field, _) = message.strip_prefix(start)?.split_once('`')?;
        Some((field, complaint))
    })
}

fn is_not_valid(message: &str) -> String {
    format!("is not valid: {}", shortened(message))
}

/// serde quotes what it found, which may be the whole body.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .rsplit_once('+')
            .is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let (parts, mut body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        // Who asks before sending has not begun to send.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(&mut body, 0).await;
        }
        return Err(too_large(limit));
    }

    let Some(first) = next_chunk(&mut body).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next_chunk(&mut body).await? else {
        // The common case, a body in one piece, is not copied.
        return if first.len() <= limit {
            Ok(first)
        } else {
            Err(too_large(limit))
        };
    };
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(first.len() + second.len()));
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if whole.len() + chunk.len() > limit {
            discard(&mut body, whole.len()).await;
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&chunk);
        next = next_chunk(&mut body).await?;
    }
    Ok(whole.freeze())
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "broken-body",
                "The body could not be read",
            )
            .detail(error.to_string())
        })?;
        // Trailers are not data.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn discard(body: &mut Body, mut read: usize) {
    while read < DISCARD_LIMIT {
        match next_chunk(body).await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
    )
    .detail(format!("at most {limit} bytes are accepted"))
    .with("limit", limit)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Order {
        title: String,
        items: Vec<Item>,
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Item {
        count: u8,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Closed {
        #[allow(dead_code)]
        items: Vec<ClosedItem>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct ClosedItem {
        #[allow(dead_code)]
        count: u8,
    }

    #[track_caller]
    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> serde_json::Value {
        serde_json::to_value(parse::<T>(body.as_bytes()).unwrap_err()).unwrap()
    }

    #[test]
    fn a_body_that_fits_is_parsed() {
        let order: Order = parse(br#"{"title":"t","items":[{"count":1}]} "#).unwrap();
        assert_eq!(order.items[0].count, 1);
    }

    #[test]
    fn text_that_is_not_json_is_malformed() {
        let deep = format!(r#"{{"title":"t","deep":{}"#, "[".repeat(100_000));
        for body in [
            "",
            "{",
            "title",
            r#"{"title":"#,
            r#"{"title":"a",}"#,
            "{\"title\":\"line\nbreak\"}",
            r#"{"title":"\ud800"}"#,
            r#"{"title":"t","items":[]} {}"#,
            &deep,
        ] {
            let problem = refused::<Order>(body);
            assert_eq!(problem["code"], "malformed-json", "{body:.80}: {problem}");
        }
        assert_eq!(
            parse::<Order>(b"{\"title\":\"\xff\"}").unwrap_err().code(),
            "malformed-json"
        );
    }

    #[test]
    fn a_field_that_is_wrong_is_named_by_its_path() {
        for (body, field) in [
            (r#"{"title":"t"}"#, "items"),
            (r#"{"title":5,"items":[]}"#, "title"),
            (r#"{"title":null,"items":[]}"#, "title"),
            (
                r#"{"title":"t","items":[{"count":1},{"count":256}]}"#,
                "items[1].count",
            ),
            (r#"{"title":"t","items":[{}]}"#, "items[0].count"),
            (r#"{"title":"t","items":[],"owner":"x"}"#, "owner"),
            (
                r#"{"title":"t","items":[{"count":1,"size":2}]}"#,
                "items[0].size",
            ),
            (r#"{"title":"t","title":"u","items":[]}"#, "title"),
            (r#"5"#, "body"),
        ] {
            let problem = refused::<Order>(body);
            assert_eq!(problem["code"], "invalid-field", "{body}: {problem}");
            assert_eq!(problem["field"], field, "{body}: {problem}");
        }
        for (body, field) in [
            (r#"{"items":[],"owner":"x"}"#, "owner"),
            (r#"{"items":[{"count":1,"size":2}]}"#, "items[0].size"),
        ] {
            assert_eq!(refused::<Closed>(body)["field"], field, "{body}");
        }
    }

    async fn received(pieces: &[&'static str]) -> Result<Json<Item>, Problem> {
        let pieces: Vec<Result<_, std::io::Error>> = pieces.iter().map(|it| Ok(*it)).collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        let mut request = Request::new(body);
        request.extensions_mut().insert(BodyLimit(12));
        let json = "application/json".parse().unwrap();
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        Json::from_request(request, &()).await
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        for pieces in [
            &["{\"count\":77}"][..],
            &["{\"count\"", ":77}"],
            &["{\"c", "ou", "nt\":7", "7}"],
        ] {
            let body = received(pieces).await.unwrap();
            assert_eq!(body.value.count, 77);
            assert_eq!(body.raw, "{\"count\":77}");
        }
        for pieces in [&["{\"count\":77} "][..], &["{\"count\":", "77", "} "]] {
            assert_eq!(received(pieces).await.unwrap_err().code(), "too-large");
        }
        assert_eq!(received(&[]).await.unwrap_err().code(), "malformed-json");
    }

    #[test]
    fn what_was_found_is_quoted_in_short() {
        let body = format!(r#"{{"title":"t","items":"{}"}}"#, "x".repeat(100_000));
        assert!(refused::<Order>(&body).to_string().len() < 1000);
    }
}
