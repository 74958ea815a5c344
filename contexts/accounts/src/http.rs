//! How users are registered over HTTP.

use annals::http::{
    Accepted, AcceptedBody, CommandRequest, Commands, OpenApiRouter, Problem, ToSchema, field,
    routes,
};
use kernel::StreamId;
use serde::Deserialize;

use crate::{Email, PersonName, Role, User, UserCommand};

pub(crate) fn commands() -> OpenApiRouter<Commands> {
    OpenApiRouter::new().routes(routes!(register_user))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterUser {
    /// Unique in the tenant, in any case.
    #[schema(example = "ada@example.org")]
    email: String,
    /// 1–200 characters.
    #[schema(example = "Ada")]
    name: String,
    /// `worker` unless told otherwise; another role is given by an admin only.
    role: Option<Role>,
}

/// Register a user
///
/// The user's id follows from tenant and address.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "accounts",
    request_body = RegisterUser,
    responses(
        (status = 201, description = "The user is registered", body = AcceptedBody),
        (status = 403, description = "`role-required`: a role was named"),
        (status = 409, description = "`email-taken`"),
    ),
)]
async fn register_user(
    commands: Commands,
    request: CommandRequest<RegisterUser>,
) -> Result<Accepted, Problem> {
    let RegisterUser { email, name, role } = &request.body;
    let role = role.unwrap_or(Role::Worker);
    if role != Role::Worker {
        request.identity.require_any(&["admin"])?;
    }
    let email = field("email", Email::parse(email))?;
    let name = field("name", PersonName::parse(name))?;
    let id = StreamId::id_for_name(&request.identity.tenant, "user", email.as_str());
    let command = UserCommand::Register { email, name, role };
    let accepted = commands.send::<User>(&id, command, &request).await?;
    Ok(accepted.created_at(format!("/v1/users/{id}")))
}
