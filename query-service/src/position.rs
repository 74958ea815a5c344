//! The position that a read waits for, as a client names it.

use axum::http::{HeaderName, StatusCode, request::Parts};
use event_log::position::{PositionMark, PositionToken};
use service_kit::Problem;

/// The header that carries a position token: in the answer to a command, and in a read that
/// wants to see its events.
///
/// The answer to a read has none: it would name each partition of each topic, and a client that
/// goes on sending the token of its last command never sees less than that.
pub const POSITION: HeaderName = HeaderName::from_static("annals-position");

/// The same for those who cannot set headers.
pub(crate) const POSITION_PARAMETER: &str = "position";

/// Everything that the request wants to see: the marks of its tokens, in the header and in the
/// query, as often as they are there.
///
/// Marks of other topics than the model's are passed over: a token of a command to another
/// context has nothing to say about this model, and a client need not know which is which.
pub(crate) fn marks_of(
    parts: &Parts,
    reads_topic: impl Fn(&str) -> bool,
) -> Result<Vec<PositionMark>, Problem> {
    let mut marks = Vec::new();
    for value in parts.headers.get_all(POSITION) {
        let text = value.to_str().map_err(|_| malformed())?;
        add(&mut marks, text)?;
    }
    let query = parts.uri.query().unwrap_or_default();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        if name == POSITION_PARAMETER {
            add(&mut marks, &text)?;
        }
    }
    marks.retain(|mark| reads_topic(&mark.position.topic));
    Ok(marks)
}

fn add(marks: &mut Vec<PositionMark>, text: &str) -> Result<(), Problem> {
    let token = PositionToken::decode(text).map_err(|_| malformed())?;
    let impossible = |mark: &PositionMark| mark.position.partition < 0 || mark.position.offset < 0;
    if token.marks.iter().any(impossible) {
        return Err(malformed());
    }
    marks.extend(token.marks);
    Ok(())
}

fn malformed() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "position-malformed",
        "The position is not one that Annals gave out",
    )
    .detail(format!(
        "send the value of `{POSITION}` of a command's answer as it came, or leave it out"
    ))
}
