//! Tasks: created by anyone, assigned by a manager, completed by their assignee.

mod board;
mod http;
mod task;
mod values;

pub(crate) fn context() -> annals::Context {
    static SCHEMAS: include_dir::Dir<'_> =
        include_dir::include_dir!("$CARGO_MANIFEST_DIR/schemas/tasks");
    annals::Context::new("tasks", &SCHEMAS)
        .stream::<task::Task>()
        .read_model::<board::TaskBoard>()
        .commands(http::commands())
}
