//! Lists, page by page.

use std::fmt;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::Problem;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, Required, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use crate::{cursor, parameters};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

/// A row of a list that is read page by page.
pub trait Listed {
    /// Names the list and its order, so that the cursor of one is not taken for another's;
    /// a change of either gets a new name.
    const LIST: &'static str;

    /// The columns of ORDER BY, which together are unique.
    type Key: Serialize + DeserializeOwned + Send;

    fn key(&self) -> Self::Key;
}

/// Which page is asked for: `limit`, 1 to 200 rows, 50 unless told, and the `cursor` of the
/// page before.
///
/// As an extractor it refuses with 422 `invalid-field` for a limit outside these bounds, and
/// with 400 `cursor-malformed` for text that is not a cursor of this list.
pub struct PageParams<T: Listed> {
    /// The key of the last row of the page before; read rows after it, in the order of the list.
    pub after: Option<T::Key>,
    limit: u16,
}

/// A page of a list, and how to get the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next page; absent when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// So many streams of the caller's tenant are quarantined: what should come of their later
    /// events is not in the list. Absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<i64>,
}

impl<T: Listed> PageParams<T> {
    /// For LIMIT: one row more than the page holds, which tells whether there is another page.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The page of these rows, of which there were asked for [`PageParams::rows`].
    pub(crate) fn of(&self, mut rows: Vec<T>, quarantined: i64) -> Page<T> {
        let limit = usize::from(self.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(cursor::after);
        Page {
            items: rows,
            next_cursor,
            quarantined: (quarantined > 0).then_some(quarantined),
        }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

#[derive(Deserialize)]
struct Asked {
    limit: Option<Limit>,
    cursor: Option<String>,
}

impl<T: Listed, S: Sync> FromRequestParts<S> for PageParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let asked: Asked = parameters::parse(parts.uri.query().unwrap_or_default())?;
        let after = match asked.cursor {
            None => None,
            Some(text) => Some(cursor::read::<T>(&text).ok_or_else(cursor_malformed)?),
        };
        Ok(Self {
            after,
            limit: asked.limit.map_or(DEFAULT_LIMIT, |limit| limit.0),
        })
    }
}

fn cursor_malformed() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "cursor-malformed",
        "The cursor is not one of this list",
    )
    .detail("take the cursor from `next_cursor` of the page before, or leave it out to begin")
}

struct Limit(u16);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .map(Self)
            .ok_or_else(|| {
                serde::de::Error::custom(format_args!("expected a number from 1 to {MAX_LIMIT}"))
            })
    }
}

impl<T: Listed> IntoParams for PageParams<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(DEFAULT_LIMIT.into()));
        let parameter = |name: &str, description: &str, schema: ObjectBuilder| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(schema))
                .build()
        };
        vec![
            parameter("limit", "At most so many items", limit),
            parameter(
                "cursor",
                "`next_cursor` of the page before",
                ObjectBuilder::new().schema_type(Type::String),
            ),
        ]
    }
}

impl<T: Listed> fmt::Debug for PageParams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageParams")
            .field("limit", &self.limit)
            .field("first", &self.after.is_none())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(u32);

    impl Listed for Row {
        const LIST: &'static str = "rows by number";
        type Key = u32;

        fn key(&self) -> u32 {
            self.0
        }
    }

    struct Other(u32);

    impl Listed for Other {
        const LIST: &'static str = "others by number";
        type Key = u32;

        fn key(&self) -> u32 {
            self.0
        }
    }

    fn page_of(limit: u16, rows: u32) -> Page<Row> {
        let params = PageParams { after: None, limit };
        params.of((1..=rows).map(Row).collect(), 0)
    }

    #[test]
    fn a_page_has_a_cursor_only_if_another_follows() {
        assert!(page_of(3, 0).next_cursor.is_none());
        assert!(page_of(3, 3).next_cursor.is_none());
        let page = page_of(3, 4);
        assert_eq!(page.items.len(), 3);
        assert_eq!(cursor::read::<Row>(&page.next_cursor.unwrap()), Some(3));
    }

    #[test]
    fn the_cursor_of_another_list_is_refused() {
        assert_eq!(cursor::read::<Row>(&cursor::after(&Other(1))), None);
        for text in ["", "x", "W10", "!!!", &"A".repeat(5000)] {
            assert_eq!(cursor::read::<Row>(text), None, "{text}");
        }
    }
}
