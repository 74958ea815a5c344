//! What a path names. All of it may stand behind `/contexts/{context}`, and means that context then.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::Error;
use crate::registry::Registry;
use crate::subject::{Scope, Subject, VersionNumber};

/// The variables of a path, by their names.
pub(super) struct InPath(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let variables = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self(variables.collect()))
    }
}

impl InPath {
    /// The subject, or the one that it is an alias of.
    pub async fn subject(&self, registry: &Registry) -> Result<Subject, Error> {
        let named = self.qualified(self.variable("subject"))?;
        registry.meant(Subject::parse(&named)?).await
    }

    /// What settings and modes are for: aliases have their own.
    pub fn scope(&self) -> Result<Scope, Error> {
        Scope::parse(&self.qualified(self.variable("subject"))?)
    }

    pub fn version(&self) -> Result<VersionNumber, Error> {
        VersionNumber::parse(self.variable("version"))
    }

    /// What is no number is no id that we have given.
    pub fn id(&self) -> Result<i32, Error> {
        let id = self.variable("id").parse();
        id.map_err(|_| Error::SchemaNotFound)
    }

    pub fn guid(&self) -> Result<Uuid, Error> {
        let guid = Uuid::parse_str(self.variable("guid"));
        guid.map_err(|_| Error::SchemaNotFound)
    }

    /// The beginning of names, or a name, that may be meant in the path's context.
    pub fn qualified(&self, name: &str) -> Result<String, Error> {
        let Some(context) = self.0.get("context") else {
            return Ok(name.to_owned());
        };
        if name.starts_with(":.") || name.starts_with(":*:") {
            return Ok(name.to_owned());
        }
        let context = context.strip_prefix(':').unwrap_or(context);
        let context = context.strip_suffix(':').unwrap_or(context);
        let context = context.strip_prefix('.').unwrap_or(context);
        if context.contains(':') {
            return Err(Error::InvalidSubject(context.chars().take(100).collect()));
        }
        Ok(match context {
            "" => name.to_owned(),
            context => format!(":.{context}:{name}"),
        })
    }

    pub fn has_context(&self) -> bool {
        self.0.contains_key("context")
    }

    fn variable(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }
}
