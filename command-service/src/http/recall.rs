//! What became of a command.

use axum::{
    extract::FromRef,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use kernel::{CommandId, StreamId};
use serde::Deserialize;
use service_kit::{
    Identity, Problem,
    extract::{Path, Query},
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Accepted, AcceptedBody,
    forward::{self, Forwarder},
};
use crate::{commands::Commands, outcome::CommandError, recorded::CommandKey};

/// The route `GET /v1/commands/{key}`.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Commands: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(show_command))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Recall {
    /// The stream that the command was for, as `kind/id` or `tenant/kind/id`.
    /// May be left out for a command that made something whose id follows from
    /// the key, such as a task; otherwise the command is not found without it.
    stream: Option<String>,
}

/// What became of a command of the caller's
///
/// What it was answered, while it is remembered; a command that is under way is
/// waited for. 404 `unknown-command`: among the commands that this stream
/// remembers there is none with this key, and a retry with the same key is safe.
#[utoipa::path(
    get,
    path = "/v1/commands/{key}",
    tag = "commands",
    params(("key" = String, Path, description = "The command's `Idempotency-Key`"), Recall),
    responses(
        (status = 200, description = "The command was carried out", body = AcceptedBody),
        (status = 404, description = "`unknown-command`"),
    ),
)]
async fn show_command(
    commands: Commands,
    identity: Identity,
    Path(key): Path<String>,
    Query(recall): Query<Recall>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let command_id =
        CommandId::parse(&key).map_err(|malformed| Problem::invalid_field("key", malformed))?;
    let streams = streams(&commands, &identity, &command_id, recall.stream)?;
    let alone = streams.len() == 1;
    for stream in streams {
        let key = CommandKey::new(&stream, &identity.actor, &command_id);
        let answer = commands.recall(&stream, key).await;
        if let Err(CommandError::UnknownCommand) = answer {
            continue;
        }
        // Of one stream, the whole request may be sent on. Several may have as many owners.
        if !alone && let Some(shard) = forward::take_needed() {
            let path = format!("/v1/commands/{command_id}?stream={stream}");
            let forwarder = Forwarder::new(commands.clone());
            match forwarder.get(shard, &path, &headers).await {
                Some(unknown) if unknown.status() == StatusCode::NOT_FOUND => continue,
                Some(response) => return Ok(response),
                None => {}
            }
        }
        return Ok(Accepted::new(answer?).into_response());
    }
    Err(CommandError::UnknownCommand.into())
}

/// Where the command may have been decided.
fn streams(
    commands: &Commands,
    identity: &Identity,
    command_id: &CommandId,
    named: Option<String>,
) -> Result<Vec<StreamId>, Problem> {
    let tenant = &identity.tenant;
    if let Some(name) = named {
        let full = match name.matches('/').count() {
            1 => format!("{tenant}/{name}"),
            _ => name,
        };
        let stream: StreamId = full
            .parse()
            .map_err(|malformed| Problem::invalid_field("stream", malformed))?;
        // Another tenant's streams are as unknown as those that do not exist.
        let own = stream.tenant() == tenant.as_str();
        return Ok(if own { vec![stream] } else { Vec::new() });
    }
    let id = StreamId::id_for_new(tenant, &identity.actor, command_id);
    Ok(commands
        .kinds()
        .filter_map(|kind| StreamId::new(tenant, kind, &id).ok())
        .collect())
}
