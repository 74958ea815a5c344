//! Membership in a group: which processes are there, and what each of them is given.
//!
//! Kafka's group coordinator watches the members by their heartbeats, elects one of them to hand
//! out the work, and brings each its part. The group says who should do something; it keeps
//! nobody from doing it still: for that there is the [`fence`](crate::fence).
//!
//! Spoken directly and not through librdkafka, which joins at most once a second and sends its
//! heartbeats when its main thread happens to wake: see `docs/adr/0010`.

mod members;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
        LeaveGroupRequest, SyncGroupRequest, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::{HeaderVersion, Request, StrBytes},
};
use tokio::time::timeout;

use crate::{
    cluster::{Cluster, ClusterError, name},
    wire::{Connection, WireError},
};
pub use members::{Present, present};

/// Not `consumer`: nothing is consumed, and tools that reset offsets should keep off.
const PROTOCOL_TYPE: &str = "annals";
/// How the work is described, for members of different releases.
const PROTOCOL: &str = "shards-1";
/// How long a rebalance waits for members that do not come. They keep their part until their
/// session is over.
const REBALANCE_WITHIN: Duration = Duration::from_secs(2);
/// Joining waits for the other members.
const JOINED_WITHIN: Duration = Duration::from_secs(10);
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Which group, and as whom.
#[derive(Clone, Debug)]
pub struct Membership {
    pub group: String,
    /// Who has the same instance later takes the place of this one, with its part of the work: a
    /// process that was killed and started again need not wait until its session is over.
    pub instance: String,
    /// Who has not been heard of for so long is taken for dead.
    pub session: Duration,
}

/// A member of a group, or who wants to become one.
#[derive(Debug)]
pub struct Member {
    cluster: Cluster,
    membership: Membership,
    /// Empty until the coordinator has given it.
    id: StrBytes,
    generation: i32,
    connection: Option<Connection>,
}

/// A member, as it is shown to the one that hands out the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub instance: String,
    /// What it said about itself when it joined.
    pub metadata: Bytes,
}

/// What a heartbeat was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The work is as it was handed out.
    Steady,
    /// It is about to be handed out anew: join again.
    Rejoin,
}

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the coordinator of group {group} cannot answer at present: {}", name(*code))]
    Unavailable { group: String, code: i16 },
    #[error("another process has joined group {group} as {instance}")]
    Replaced { group: String, instance: String },
    #[error("the broker refused {step} for group {group}: {}", name(*code))]
    Refused {
        step: &'static str,
        group: String,
        code: i16,
    },
}

impl GroupError {
    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Cluster(_) | Self::Wire(_) | Self::Unavailable { .. } => true,
            Self::Replaced { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Member {
    pub fn new(cluster: &Cluster, membership: Membership) -> Self {
        Self {
            cluster: cluster.clone(),
            membership,
            id: StrBytes::default(),
            generation: -1,
            connection: None,
        }
    }

    /// How often the work was handed out before it was as this member knows it; below zero before
    /// it has joined.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Joins, or joins again, and answers this member's part of the work.
    ///
    /// `metadata` is shown to whichever member hands out the work. If that is this one, `hand_out`
    /// gets all members and answers each one's part, by instance.
    pub async fn join(
        &mut self,
        metadata: Bytes,
        hand_out: impl Fn(Vec<Peer>) -> Vec<(String, Bytes)>,
    ) -> Result<Bytes, GroupError> {
        loop {
            let joined = self.ask_to_join(&metadata).await?;
            // A member that came back under its instance is not to hand out what is handed out.
            let leads = joined.leader == joined.member_id && !joined.skip_assignment;
            let parts = match leads {
                true => parts(&joined, &hand_out),
                false => Vec::new(),
            };
            if let Some(part) = self.synchronize(parts).await? {
                return Ok(part);
            }
        }
    }

    /// Says that this process is alive; at least every third of the session.
    pub async fn heartbeat(&mut self) -> Result<Heard, GroupError> {
        if self.generation < 0 {
            return Ok(Heard::Rejoin);
        }
        let request = HeartbeatRequest::default()
            .with_group_id(self.group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance()));
        let code = self
            .ask(4, &request, HEARD_WITHIN, |answer| answer.error_code)
            .await?;
        match self.judge("Heartbeat", code)? {
            Some(Standing::Outdated) => Ok(Heard::Rejoin),
            None => Ok(Heard::Steady),
        }
    }

    /// Gives this member's work back at once, instead of at the end of its session.
    pub async fn leave(&mut self) -> Result<(), GroupError> {
        let identity = MemberIdentity::default()
            .with_group_instance_id(Some(self.instance()))
            // Under its own id only: whoever has taken the instance over since stays.
            .with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group())
            .with_members(vec![identity]);
        let code = self
            .ask(4, &request, HEARD_WITHIN, |answer| {
                let member = answer.members.first().map_or(0, |member| member.error_code);
                if answer.error_code == 0 {
                    member
                } else {
                    answer.error_code
                }
            })
            .await?;
        self.judge("LeaveGroup", code)?;
        self.forget();
        Ok(())
    }

    async fn ask_to_join(&mut self, metadata: &Bytes) -> Result<JoinGroupResponse, GroupError> {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(PROTOCOL))
                .with_metadata(metadata.clone());
            let request = JoinGroupRequest::default()
                .with_group_id(self.group())
                .with_session_timeout_ms(self.membership.session.as_millis() as i32)
                .with_rebalance_timeout_ms(REBALANCE_WITHIN.as_millis() as i32)
                .with_member_id(self.id.clone())
                .with_group_instance_id(Some(self.instance()))
                .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                .with_protocols(vec![protocol]);
            let mut joined = JoinGroupResponse::default();
            let code = self
                .ask(9, &request, JOINED_WITHIN, |answer| {
                    joined = answer;
                    joined.error_code
                })
                .await?;
            if self.judge("JoinGroup", code)?.is_none() {
                self.id = joined.member_id.clone();
                self.generation = joined.generation_id;
                return Ok(joined);
            }
        }
    }

    /// `None` when another rebalance has begun meanwhile.
    async fn synchronize(
        &mut self,
        parts: Vec<SyncGroupRequestAssignment>,
    ) -> Result<Option<Bytes>, GroupError> {
        let request = SyncGroupRequest::default()
            .with_group_id(self.group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_group_instance_id(Some(self.instance()))
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL)))
            .with_assignments(parts);
        let mut part = Bytes::new();
        let code = self
            .ask(5, &request, JOINED_WITHIN, |answer| {
                part = answer.assignment;
                answer.error_code
            })
            .await?;
        match self.judge("SyncGroup", code)? {
            None => Ok(Some(part)),
            Some(Standing::Outdated) => Ok(None),
        }
    }

    /// Sends one request; answers the error code that `code_of` finds.
    async fn ask<R>(
        &mut self,
        version: i16,
        request: &R,
        within: Duration,
        code_of: impl FnOnce(R::Response) -> i16,
    ) -> Result<i16, GroupError>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.cluster, &self.membership.group).await?),
        };
        match timeout(within, connection.call(version, request)).await {
            Ok(Ok(answer)) => Ok(code_of(answer)),
            Ok(Err(error)) => {
                self.connection = None;
                Err(error.into())
            }
            Err(_) => {
                self.connection = None;
                Err(self.unavailable(ResponseError::RequestTimedOut.code()))
            }
        }
    }

    /// What an error code means; `None` when it is none.
    fn judge(&mut self, step: &'static str, code: i16) -> Result<Option<Standing>, GroupError> {
        use ResponseError as E;
        let group = self.membership.group.clone();
        match ResponseError::try_from_code(code) {
            None if code == 0 => Ok(None),
            Some(E::RebalanceInProgress | E::IllegalGeneration) => Ok(Some(Standing::Outdated)),
            Some(E::UnknownMemberId) => {
                self.forget();
                Ok(Some(Standing::Outdated))
            }
            Some(E::FencedInstanceId) => Err(GroupError::Replaced {
                group,
                instance: self.membership.instance.clone(),
            }),
            Some(E::NotCoordinator | E::CoordinatorNotAvailable) => {
                self.connection = None;
                Err(self.unavailable(code))
            }
            Some(error) if error.is_retriable() => Err(self.unavailable(code)),
            _ => Err(GroupError::Refused { step, group, code }),
        }
    }

    fn forget(&mut self) {
        self.id = StrBytes::default();
        self.generation = -1;
    }

    fn unavailable(&self, code: i16) -> GroupError {
        GroupError::Unavailable {
            group: self.membership.group.clone(),
            code,
        }
    }

    fn group(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.membership.group.clone()))
    }

    fn instance(&self) -> StrBytes {
        StrBytes::from_string(self.membership.instance.clone())
    }
}

/// What keeps a member from going on.
enum Standing {
    /// Its generation is over, or its session.
    Outdated,
}

async fn connect(cluster: &Cluster, group: &str) -> Result<Connection, GroupError> {
    const GROUP: i8 = 0;
    let request = FindCoordinatorRequest::default()
        .with_key_type(GROUP)
        .with_coordinator_keys(vec![StrBytes::from_string(group.into())]);
    let found = cluster.connect_any().await?.call(4, &request).await?;
    match found.coordinators.first() {
        Some(broker) if broker.error_code == 0 => {
            let address = format!("{}:{}", broker.host, broker.port);
            Ok(cluster.connect(&address, JOINED_WITHIN).await?)
        }
        other => Err(GroupError::Unavailable {
            group: group.into(),
            code: other.map_or(-1, |broker| broker.error_code),
        }),
    }
}

/// Each member's part, as the coordinator wants it: by the ids that it gave.
fn parts(
    joined: &JoinGroupResponse,
    hand_out: impl Fn(Vec<Peer>) -> Vec<(String, Bytes)>,
) -> Vec<SyncGroupRequestAssignment> {
    let members = joined
        .members
        .iter()
        .map(|member| {
            let instance = member.group_instance_id.as_ref();
            let instance = instance.unwrap_or(&member.member_id).to_string();
            (instance, member)
        })
        .collect::<Vec<_>>();
    let peers = members
        .iter()
        .map(|(instance, member)| Peer {
            instance: instance.clone(),
            metadata: member.metadata.clone(),
        })
        .collect();
    let handed_out = hand_out(peers);
    members
        .into_iter()
        .map(|(instance, member)| {
            let part = handed_out.iter().find(|(of, _)| *of == instance);
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(part.map(|(_, part)| part.clone()).unwrap_or_default())
        })
        .collect()
}
