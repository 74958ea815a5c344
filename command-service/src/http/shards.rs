//! The operators' view: who serves which shard, and how it is.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, Request, header},
    routing::get,
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use service_kit::{Identity, Problem, extract::Query};
use tokio::time::timeout;

use crate::{commands::Commands, lane::Foreign, shard::ShardStatus};

const PATH: &str = "/v1/shards";
/// Who may see it: it names streams of every tenant.
pub const OPERATOR: &str = "operator";
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// `GET /v1/shards`, for operators: every shard, asked of every node; with `?own=true` those of
/// this node.
pub(crate) fn routes(commands: Commands) -> Router {
    Router::new()
        .route(PATH, get(show_shards))
        .with_state(commands)
}

/// The body of `GET /v1/shards`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardsView {
    /// Addresses of the nodes of the group.
    pub nodes: Vec<String>,
    /// Nodes that gave no answer; what they serve is told by their claims.
    pub silent: Vec<String>,
    /// In their order.
    pub shards: Vec<ShardView>,
}

/// A shard, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardView {
    pub shard: i32,
    /// Address of the node that serves it, or is about to.
    pub owner: Option<String>,
    pub term: Option<u64>,
    /// `serving`, `starting`, `troubled`, `stopped`, or `unknown` when the owner is silent.
    pub status: String,
    /// Why it is not served, or not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Requests that wait to be decided.
    pub queue: usize,
    /// For how many milliseconds the append in flight has had no answer; 0 when there is none.
    pub lag_ms: i64,
    /// When the log last took something from this owner; RFC 3339, UTC.
    pub last_commit: Option<String>,
    /// How many streams are stopped.
    pub stopped: usize,
    /// At most 1,000 of them.
    pub stopped_streams: Vec<StoppedStream>,
    /// Records in its topics that are none of ours and belong to no stream: they are passed over.
    pub foreign_records: Vec<ForeignRecords>,
}

/// A stream that is not decided for until somebody has looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedStream {
    pub stream: String,
    pub reason: String,
}

/// Records that somebody else wrote into a topic, as far as the owner has read it itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRecords {
    pub topic: String,
    pub records: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    own: bool,
}

async fn show_shards(
    State(commands): State<Commands>,
    identity: Identity,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Json<ShardsView>, Problem> {
    identity.require_any(&[OPERATOR])?;
    let group = &commands.shards().group;
    let mut view = ShardsView {
        nodes: group.standing().borrow().assignment.nodes.clone(),
        silent: Vec::new(),
        shards: own(&commands),
    };
    if which.own {
        return Ok(Json(view));
    }
    let others = view.nodes.iter().filter(|node| *node != group.address());
    let asked = others.map(async |node| (node.clone(), ask(&commands, node, &headers).await));
    for (node, answer) in join_all(asked).await {
        match answer {
            Some(of_node) => view.shards.extend(of_node.shards),
            None => view.silent.push(node),
        }
    }
    // Of two that believe to serve a shard, the higher term is right.
    view.shards
        .sort_by_key(|it| (it.shard, std::cmp::Reverse(it.term)));
    view.shards.dedup_by_key(|it| it.shard);
    for shard in 0..commands.shards().shards.len() as i32 {
        if !view.shards.iter().any(|it| it.shard == shard) {
            view.shards
                .insert(shard as usize, by_claim(&commands, shard));
        }
    }
    Ok(Json(view))
}

fn own(commands: &Commands) -> Vec<ShardView> {
    let shards = commands.shards();
    (0..)
        .zip(&shards.shards)
        .filter_map(|(number, shard)| {
            let status = shard.status.borrow().clone();
            let name = match &status {
                ShardStatus::Elsewhere => return None,
                ShardStatus::Starting(_) if !shards.group.assigns(number) => return None,
                ShardStatus::Starting(_) => "starting",
                ShardStatus::Serving => "serving",
                ShardStatus::Troubled(_) => "troubled",
                ShardStatus::Stopped(_) => "stopped",
            };
            let facts = &shard.facts;
            let queued = shard.requests.max_capacity() - shard.requests.capacity();
            let last_commit = facts
                .last_commit_ms()
                .and_then(DateTime::from_timestamp_millis);
            let stopped = facts.stopped();
            Some(ShardView {
                shard: number,
                owner: Some(shards.group.address().to_owned()),
                term: Some(facts.term.load(Ordering::Relaxed)).filter(|term| *term > 0),
                status: name.to_owned(),
                reason: status.trouble().map(str::to_owned),
                queue: queued + facts.waiting.load(Ordering::Relaxed),
                lag_ms: facts.lag_ms(),
                last_commit: last_commit.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
                stopped: stopped.count,
                stopped_streams: (stopped.some.into_iter())
                    .map(|(stream, reason)| StoppedStream { stream, reason })
                    .collect(),
                foreign_records: facts.foreign().into_iter().map(foreign_records).collect(),
            })
        })
        .collect()
}

fn foreign_records((topic, found): (String, Foreign)) -> ForeignRecords {
    ForeignRecords {
        topic,
        records: found.records,
        first_offset: found.first_offset,
        last_offset: found.last_offset,
    }
}

/// Of a shard whose owner says nothing.
fn by_claim(commands: &Commands, shard: i32) -> ShardView {
    let shards = commands.shards();
    let claim = shards.directory.owner(shard);
    ShardView {
        shard,
        term: claim.as_ref().map(|owner| owner.term),
        owner: claim
            .map(|owner| owner.node)
            .or_else(|| shards.group.node_of(shard)),
        status: "unknown".to_owned(),
        ..ShardView::default()
    }
}

async fn ask(commands: &Commands, node: &str, headers: &HeaderMap) -> Option<ShardsView> {
    let mut request = Request::get(format!("http://{node}{PATH}?own=true"));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request = request.header(header::AUTHORIZATION, token);
    }
    let request = request.body(Full::<Bytes>::default()).ok()?;
    let asked = async {
        let answer = commands.shards().client.request(request).await.ok()?;
        answer.into_body().collect().await.ok()
    };
    let body = timeout(ANSWER_WITHIN, asked).await.ok()??;
    serde_json::from_slice(&body.to_bytes()).ok()
}
