//! The position that a read waits for, as a client names it.

use axum::http::{HeaderName, StatusCode, request::Parts};
use event_log::{
    Position,
    position::{PositionMark, PositionToken},
};
use service_kit::Problem;

use crate::following::Place;

/// The header that carries a position token: in the answer to a command, and in a read that
/// wants to see its events.
///
/// The answer to a read has none: it would name each partition of each topic, and a client that
/// goes on sending the token of its last command never sees less than that.
pub const POSITION: HeaderName = HeaderName::from_static("annals-position");

/// The same for those who cannot set headers.
pub(crate) const POSITION_PARAMETER: &str = "position";

/// Everything that the request wants to see: the marks of its tokens, in the header and in the
/// query, as often as they are there. A token is a command's, or the place of one who follows.
pub(crate) fn marks_of(parts: &Parts) -> Result<Vec<PositionMark>, Problem> {
    let mut marks = Vec::new();
    for value in parts.headers.get_all(POSITION) {
        let text = value.to_str().map_err(|_| malformed())?;
        marks.extend(marks_in(text)?);
    }
    let query = parts.uri.query().unwrap_or_default();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        if name == POSITION_PARAMETER {
            marks.extend(marks_in(&text)?);
        }
    }
    Ok(marks)
}

/// Those of one token.
pub(crate) fn marks_in(text: &str) -> Result<Vec<PositionMark>, Problem> {
    let Ok(token) = PositionToken::decode(text) else {
        let place = Place::decode(text).map_err(|_| malformed())?;
        return Ok(place.marks().collect());
    };
    let impossible = |mark: &PositionMark| mark.position.partition < 0 || mark.position.offset < 0;
    if token.marks.iter().any(impossible) {
        return Err(malformed());
    }
    Ok(token.marks)
}

/// Whether the request names a position to be waited for.
pub(crate) fn is_named(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    parts.headers.contains_key(POSITION)
        || form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == POSITION_PARAMETER)
}

/// 400 `position-impossible`: there is no such place in the log, and never was.
pub(crate) fn impossible(position: &Position, why: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "position-impossible",
        "The position is not one that Annals gave out",
    )
    .detail(format!(
        "{} partition {} offset {} {why}",
        position.topic, position.partition, position.offset
    ))
}

pub(crate) fn malformed() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "position-malformed",
        "The position is not one that Annals gave out",
    )
    .detail(format!(
        "send the value of `{POSITION}` of a command's answer as it came, or leave it out"
    ))
}
