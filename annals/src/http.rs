//! For a context's command routes.

pub use command_service::{
    Accepted, CommandRequest, Commands, Current,
    http::{AcceptedBody, NoBody},
};
pub use service_kit::{Identity, Problem, extract::Path};
pub use utoipa::{IntoParams, ToSchema};
pub use utoipa_axum::{router::OpenApiRouter, routes};

/// A field's value, or 422 `invalid-field` that names the field and says what is wrong.
pub fn field<T>(name: &str, parsed: Result<T, kernel::Malformed>) -> Result<T, Problem> {
    parsed.map_err(|malformed| Problem::invalid_field(name, malformed))
}
