//! A task: somebody types a title, somebody else does it.

use kernel::{Decider, Ground, Meta};
use serde::{Deserialize, Serialize};

use crate::{Description, JiraId, Title, TypedTitle, UserId};

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
        jira_id: Option<JiraId>,
        description: Description,
        assignee: Option<UserId>,
    },
    Assign {
        to: UserId,
    },
    Complete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskEvent {
    TaskCreated {
        /// Without a tracker's id, but as it was typed where nobody could tell.
        title: String,
        jira_id: Option<String>,
        /// Where the two above do not give it back: of the first version alone.
        typed_title: Option<String>,
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
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// It wants out: the task is to be done.
    BirdInACage,
    /// The task is done.
    MilletInABowl,
}

impl TaskStatus {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::BirdInACage => "bird in a cage",
            Self::MilletInABowl => "millet in a bowl",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRejection {
    #[error("there is no such task")]
    NoSuchTask,
    #[error("a task with this id exists already")]
    TaskExists,
    #[error("a title has no brackets: a tracker's id has a field of its own")]
    BracketsInTitle,
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
            (Task::Unknown, Create { title, .. })
                if title.has_brackets() && meta.writes("TaskCreated", 2) =>
            {
                Err(BracketsInTitle)
            }
            (
                Task::Unknown,
                Create {
                    title,
                    jira_id,
                    description,
                    assignee,
                },
            ) => {
                let title = title.as_str();
                let given = TypedTitle {
                    jira_id: jira_id.as_ref().map(JiraId::as_str),
                    title,
                    typed: None,
                };
                // The first version has the id in the title, and is read so.
                let parts = match given.jira_id.is_some() || meta.writes("TaskCreated", 2) {
                    true => given,
                    false => TypedTitle::of(title),
                };
                let created = TaskCreated {
                    title: parts.title.to_owned(),
                    jira_id: parts.jira_id.map(str::to_owned),
                    typed_title: parts.typed.map(str::to_owned),
                    description: description.as_str().to_owned(),
                    status: TaskStatus::BirdInACage,
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
                status: TaskStatus::BirdInACage,
                ..
            } => Task::Open { assignee: None },
            TaskEvent::TaskCreated {
                status: TaskStatus::MilletInABowl,
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
            Self::BracketsInTitle => "brackets-in-title",
        }
    }

    fn ground(&self) -> Ground {
        match self {
            Self::NoSuchTask => Ground::Missing,
            Self::NotTheAssignee => Ground::Forbidden,
            Self::TaskExists | Self::AlreadyCompleted | Self::BracketsInTitle => Ground::Rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{Given, given};

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn created() -> TaskEvent {
        TaskEvent::TaskCreated {
            title: "Sort the records".into(),
            jira_id: Some("AVRO-12".into()),
            typed_title: None,
            description: "".into(),
            status: TaskStatus::BirdInACage,
        }
    }

    fn assigned(to: &str) -> TaskEvent {
        TaskEvent::TaskAssigned { assignee: user(to) }
    }

    fn completed(by: &str) -> TaskEvent {
        TaskEvent::TaskCompleted {
            completed_by: user(by),
        }
    }

    fn create(assignee: Option<&str>) -> TaskCommand {
        TaskCommand::Create {
            title: Title::parse("Sort the records").unwrap(),
            jira_id: Some(JiraId::parse("AVRO-12").unwrap()),
            description: Description::default(),
            assignee: assignee.map(user),
        }
    }

    fn assign(to: &str) -> TaskCommand {
        TaskCommand::Assign { to: user(to) }
    }

    fn task(events: impl IntoIterator<Item = TaskEvent>) -> Given<Task> {
        given(events)
    }

    #[test]
    fn a_new_task_has_a_title_and_perhaps_a_trackers_id_and_is_unassigned() {
        task([]).when(create(None)).then([created()]);
    }

    fn typed(title: &str) -> TaskCommand {
        TaskCommand::Create {
            title: Title::parse(title).unwrap(),
            jira_id: None,
            description: Description::default(),
            assignee: None,
        }
    }

    #[test]
    fn a_new_title_has_no_brackets() {
        for title in ["[AVRO-12] - Sort the records", "Sort [the] records", "a]"] {
            task([])
                .when(typed(title))
                .then_rejected(TaskRejection::BracketsInTitle);
        }
    }

    #[test]
    fn while_the_first_version_is_written_a_title_is_taken_as_it_was_before() {
        let of = |title: &str, jira_id: Option<&str>, typed: Option<&str>| TaskEvent::TaskCreated {
            title: title.into(),
            jira_id: jira_id.map(Into::into),
            typed_title: typed.map(Into::into),
            description: String::new(),
            status: TaskStatus::BirdInACage,
        };
        let before = |title: &str, expected| {
            let given = task([]).writing("TaskCreated", 1);
            given.when(typed(title)).then([expected]);
        };
        let brackets = "[AVRO-12] - Sort";
        before(brackets, of("Sort", Some("AVRO-12"), Some(brackets)));
        before("AVRO-12: Sort", of("Sort", Some("AVRO-12"), None));
        before("Sort [it]", of("Sort [it]", None, None));
    }

    #[test]
    fn a_task_may_be_created_for_somebody() {
        task([])
            .when(create(Some("bo")))
            .then([created(), assigned("bo")]);
    }

    #[test]
    fn a_task_is_not_created_again() {
        task([created()])
            .when(create(None))
            .then_rejected(TaskRejection::TaskExists);
    }

    #[test]
    fn an_assignment_names_the_new_assignee() {
        task([created(), assigned("bo")])
            .when(assign("cy"))
            .then([assigned("cy")]);
    }

    #[test]
    fn assigning_to_the_same_person_changes_nothing() {
        task([created(), assigned("bo")])
            .when(assign("bo"))
            .then([]);
    }

    #[test]
    fn a_completed_task_is_not_assigned() {
        task([created(), assigned("bo"), completed("bo")])
            .when(assign("cy"))
            .then_rejected(TaskRejection::AlreadyCompleted);
    }

    #[test]
    fn the_assignee_completes_the_task() {
        task([created(), assigned("bo")])
            .by("bo")
            .when(TaskCommand::Complete)
            .then([completed("bo")]);
    }

    #[test]
    fn nobody_else_completes_the_task() {
        task([created(), assigned("bo")])
            .by("cy")
            .when(TaskCommand::Complete)
            .then_rejected(TaskRejection::NotTheAssignee);
    }

    #[test]
    fn an_earlier_assignee_does_not_complete_the_task() {
        task([created(), assigned("bo"), assigned("cy")])
            .by("bo")
            .when(TaskCommand::Complete)
            .then_rejected(TaskRejection::NotTheAssignee);
    }

    #[test]
    fn an_unassigned_task_is_completed_by_nobody() {
        task([created()])
            .by("bo")
            .when(TaskCommand::Complete)
            .then_rejected(TaskRejection::NotTheAssignee);
    }

    #[test]
    fn closed_task_cannot_be_completed_again() {
        task([created(), assigned("bo"), completed("bo")])
            .by("bo")
            .when(TaskCommand::Complete)
            .then_rejected(TaskRejection::AlreadyCompleted);
    }

    #[test]
    fn an_unknown_task_is_neither_assigned_nor_completed() {
        task([])
            .when(assign("bo"))
            .then_rejected(TaskRejection::NoSuchTask);
        task([])
            .when(TaskCommand::Complete)
            .then_rejected(TaskRejection::NoSuchTask);
    }
}
