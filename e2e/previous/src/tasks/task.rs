//! A task: somebody types a title, somebody else does it.

use kernel::{Decider, Ground, Meta};
use serde::{Deserialize, Serialize};

use super::values::{Description, Title, UserId};

/// A task as its rules see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    #[default]
    Unknown,
    Open {
        assignee: Option<UserId>,
    },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskCommand {
    Create {
        title: Title,
        description: Description,
        assignee: Option<UserId>,
    },
    Assign {
        to: UserId,
    },
    Complete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names, reason = "they are called so in the log")]
pub enum TaskEvent {
    TaskCreated {
        /// As it was typed, a tracker's id in it or not.
        title: String,
        description: String,
        status: TaskStatus,
    },
    TaskAssigned {
        assignee: UserId,
    },
    TaskCompleted {
        completed_by: UserId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRejection {
    #[error("there is no such task")]
    NoSuchTask,
    #[error("a task with this id exists already")]
    TaskExists,
    #[error("only the task's assignee may complete it")]
    NotTheAssignee,
    #[error("the task is completed already")]
    AlreadyCompleted,
}

impl Decider for Task {
    const KIND: &'static str = "task";
    type Command = TaskCommand;
    type Event = TaskEvent;
    type Rejection = TaskRejection;

    fn decide(&self, command: &TaskCommand, meta: &Meta) -> Result<Vec<TaskEvent>, TaskRejection> {
        use {TaskCommand::*, TaskEvent::*, TaskRejection::*};
        match (self, command) {
            (
                Task::Unknown,
                Create {
                    title,
                    description,
                    assignee,
                },
            ) => {
                let created = TaskCreated {
                    title: title.as_str().to_owned(),
                    description: description.as_str().to_owned(),
                    status: TaskStatus::Open,
                };
                let assigned = assignee.clone().map(|assignee| TaskAssigned { assignee });
                Ok([created].into_iter().chain(assigned).collect())
            }
            (Task::Open { .. } | Task::Done, Create { .. }) => Err(TaskExists),

            (
                Task::Open {
                    assignee: Some(now),
                },
                Assign { to },
            ) if now == to => Ok(vec![]),
            (Task::Open { .. }, Assign { to }) => Ok(vec![TaskAssigned {
                assignee: to.clone(),
            }]),
            (Task::Done, Assign { .. }) => Err(AlreadyCompleted),

            (
                Task::Open {
                    assignee: Some(assignee),
                },
                Complete,
            ) if assignee.is(&meta.actor) => Ok(vec![TaskCompleted {
                completed_by: assignee.clone(),
            }]),
            (Task::Open { .. }, Complete) => Err(NotTheAssignee),
            (Task::Done, Complete) => Err(AlreadyCompleted),

            (Task::Unknown, Assign { .. } | Complete) => Err(NoSuchTask),
        }
    }

    fn evolve(&mut self, event: &TaskEvent) {
        *self = match event {
            TaskEvent::TaskCreated {
                status: TaskStatus::Open,
                ..
            } => Task::Open { assignee: None },
            TaskEvent::TaskCreated {
                status: TaskStatus::Closed,
                ..
            } => Task::Done,
            TaskEvent::TaskAssigned { assignee } => Task::Open {
                assignee: Some(assignee.clone()),
            },
            TaskEvent::TaskCompleted { .. } => Task::Done,
        }
    }
}

impl kernel::Rejection for TaskRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchTask => "no-such-task",
            Self::TaskExists => "task-exists",
            Self::NotTheAssignee => "not-the-assignee",
            Self::AlreadyCompleted => "already-completed",
        }
    }

    fn ground(&self) -> Ground {
        match self {
            Self::NoSuchTask => Ground::Missing,
            Self::NotTheAssignee => Ground::Forbidden,
            Self::TaskExists | Self::AlreadyCompleted => Ground::Rule,
        }
    }
}
