//! Tasks: created by anyone, assigned by a manager, completed by their assignee.
#![warn(clippy::wildcard_enum_match_arm)]

mod task;
mod typed;
mod values;

#[cfg(feature = "runtime")]
mod board;
#[cfg(feature = "runtime")]
mod http;

pub use task::{Task, TaskCommand, TaskEvent, TaskRejection, TaskStatus};
pub use typed::TypedTitle;
pub use values::{Description, JiraId, Title, UserId};

/// Everything of this context, for `annals::App`.
#[cfg(feature = "runtime")]
pub fn context() -> annals::Context {
    static SCHEMAS: include_dir::Dir<'_> =
        include_dir::include_dir!("$CARGO_MANIFEST_DIR/../../schemas/tasks");
    annals::Context::new("tasks", &SCHEMAS)
        .stream::<Task>()
        .read_model::<board::TaskBoard>()
        .commands(http::commands())
        .queries(board::queries())
}

#[cfg(all(test, feature = "runtime"))]
mod tests {
    #[test]
    fn events_and_schema_files_agree() {
        let context = super::context();
        event_log::assert_events_match_schemas!(super::TaskEvent, context.schemas());
    }
}
