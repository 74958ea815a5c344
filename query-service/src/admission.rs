//! What every request to a query has to pass: a bearer token, and no parameter that the API does
//! not declare, so that a misspelt filter does not widen a search.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use service_kit::{Identity, Problem};
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Operation, Parameter, ParameterIn},
};

use crate::{failure::malformed_path, following::take_bearer};

/// The parameters that each route declares.
#[derive(Clone)]
pub(crate) struct Declared(Arc<HashMap<(Method, String), HashSet<String>>>);

impl Declared {
    pub fn by(openapi: &OpenApi) -> Self {
        let mut declared = HashMap::new();
        for (path, item) in &openapi.paths.paths {
            for (method, operation) in [(Method::GET, &item.get), (Method::POST, &item.post)] {
                if let Some(operation) = operation {
                    declared.insert((method, path.clone()), query_parameters(operation));
                }
            }
        }
        Self(Arc::new(declared))
    }

    fn check(&self, method: &Method, path: &str, query: &str) -> Result<(), Problem> {
        // The router lets GET routes answer HEAD.
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let declared = self.0.get(&(method.clone(), path.to_owned()));
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !declared.is_some_and(|declared| declared.contains(&*name)) {
                return Err(unknown_parameter(&name));
            }
            if value.contains('\0') {
                // Postgres has no text with it.
                return Err(Problem::invalid_field(name, "holds a NUL character"));
            }
        }
        Ok(())
    }
}

/// Middleware: 401 as [`Identity`] says; 422 `unknown-parameter`, with the member `parameter`;
/// 422 `invalid-field` or 400 `invalid-path` where there is a NUL character.
pub(crate) async fn admit(
    State(declared): State<Declared>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    take_bearer(&mut parts.headers);
    let caller = Identity::from_request_parts(&mut parts, &()).await?;
    parts.extensions.insert(caller);
    if let Some(query) = parts.uri.query() {
        let path = parts.extensions.get::<MatchedPath>();
        let path = path.map_or("", MatchedPath::as_str);
        declared.check(&parts.method, path, query)?;
    }
    if parts.uri.path().contains("%00") {
        return Err(malformed_path().detail("it holds a NUL character"));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

fn query_parameters(operation: &Operation) -> HashSet<String> {
    operation
        .parameters
        .iter()
        .flatten()
        .filter_map(|parameter| match parameter {
            RefOr::T(Parameter {
                name,
                parameter_in: ParameterIn::Query,
                ..
            }) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn unknown_parameter(name: &str) -> Problem {
    let name: String = name.chars().take(100).collect();
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unknown-parameter",
        "A query parameter is not known",
    )
    .detail(format!("`{name}` is not a parameter of this query"))
    .with("parameter", name)
}
