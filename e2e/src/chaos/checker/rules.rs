//! The rules of a task, once more: the checker takes nobody's word for what a command should have done.

use crate::chaos::history::{Ask, Task};

/// What an event says happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Created { title: String },
    Assigned { to: String },
    Completed { by: String },
}

pub(super) fn decide(task: &Task, ask: &Ask, actor: &str) -> Result<Vec<Happening>, &'static str> {
    let name = actor.split_once(':').map_or(actor, |(_, name)| name);
    match (task, ask) {
        (Task::Unknown, Ask::Create { title, assignee }) => {
            let title = title.clone();
            let assigned = assignee.clone().map(|to| Happening::Assigned { to });
            let created = [Happening::Created { title }];
            Ok(created.into_iter().chain(assigned).collect())
        }
        (_, Ask::Create { .. }) => Err("task-exists"),

        (Task::Unknown, Ask::Assign { .. } | Ask::Complete) => Err("no-such-task"),
        (Task::Done, Ask::Assign { .. } | Ask::Complete) => Err("already-completed"),

        (Task::Open { assignee }, Ask::Assign { to }) if assignee.as_ref() == Some(to) => {
            Ok(vec![])
        }
        (Task::Open { .. }, Ask::Assign { to }) => Ok(vec![Happening::Assigned { to: to.clone() }]),

        (Task::Open { assignee }, Ask::Complete) if assignee.as_deref() == Some(name) => {
            Ok(vec![Happening::Completed { by: name.into() }])
        }
        (Task::Open { .. }, Ask::Complete) => Err("not-the-assignee"),

        (_, Ask::Recall | Ask::StrongRead | Ask::BoardRead { .. }) => Ok(vec![]),
    }
}

pub(super) fn after(happening: &Happening) -> Task {
    match happening {
        Happening::Created { .. } => Task::Open { assignee: None },
        Happening::Assigned { to } => Task::Open {
            assignee: Some(to.clone()),
        },
        Happening::Completed { .. } => Task::Done,
    }
}
