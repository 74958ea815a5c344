//! Who is in a group, asked by somebody who is not.

use kafka_protocol::{
    ResponseError,
    messages::{DescribeGroupsRequest, GroupId, ListGroupsRequest},
    protocol::StrBytes,
};

use super::GroupError;
use crate::{cluster::Cluster, wire::Connection};

/// A member of a group, by its instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Present {
    pub group: String,
    pub instance: String,
}

/// The members of all groups whose names are accepted, in order. Who was killed is among them until
/// its session is over.
pub async fn present(
    cluster: &Cluster,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Present>, GroupError> {
    let mut found = Vec::new();
    // Each broker knows the groups that it coordinates.
    for (_, mut broker) in cluster.connect_all().await? {
        let groups = list(&mut broker, &is_wanted).await?;
        if !groups.is_empty() {
            describe(&mut broker, groups, &mut found).await?;
        }
    }
    found.sort();
    Ok(found)
}

async fn list(
    broker: &mut Connection,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<GroupId>, GroupError> {
    let answer = broker.call(3, &ListGroupsRequest::default()).await?;
    check("ListGroups", "(all)", answer.error_code)?;
    let groups = answer.groups.into_iter().map(|group| group.group_id);
    Ok(groups.filter(|group| is_wanted(group)).collect())
}

async fn describe(
    broker: &mut Connection,
    groups: Vec<GroupId>,
    found: &mut Vec<Present>,
) -> Result<(), GroupError> {
    let request = DescribeGroupsRequest::default().with_groups(groups);
    let answer = broker.call(5, &request).await?;
    for group in answer.groups {
        check("DescribeGroups", &group.group_id, group.error_code)?;
        let members = group.members.iter();
        let instances = members.map(|it| it.group_instance_id.as_ref().unwrap_or(&it.member_id));
        found.extend(instances.map(|instance: &StrBytes| Present {
            group: group.group_id.to_string(),
            instance: instance.to_string(),
        }));
    }
    Ok(())
}

fn check(step: &'static str, group: &str, code: i16) -> Result<(), GroupError> {
    let group = group.to_owned();
    match ResponseError::try_from_code(code) {
        None if code == 0 => Ok(()),
        Some(error) if error.is_retriable() => Err(GroupError::Unavailable { group, code }),
        _ => Err(GroupError::Refused { step, group, code }),
    }
}
