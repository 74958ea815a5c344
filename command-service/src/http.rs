//! What a context's command routes are made of.
//!
//! A handler takes [`Commands`] and a [`CommandRequest`], names the stream, and
//! answers what [`Commands::send`] gives it.

mod accepted;
mod current;
pub(crate) mod forward;
mod problem;
mod recall;
mod request;
pub(crate) mod shards;

pub use accepted::{Accepted, AcceptedBody};
pub use recall::routes as recall_routes;
pub use request::{CommandRequest, NoBody};
pub use shards::{ForeignRecords, OPERATOR, ShardView, ShardsView, StoppedStream};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use service_kit::Problem;

use crate::commands::Commands;

impl<S: Sync> FromRequestParts<S> for Commands
where
    Commands: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Commands::from_ref(state))
    }
}
