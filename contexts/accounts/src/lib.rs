//! Accounts: who there is, and what they may do.
#![warn(clippy::wildcard_enum_match_arm)]

mod user;
mod values;

#[cfg(feature = "runtime")]
mod directory;
#[cfg(feature = "runtime")]
mod http;

pub use user::{User, UserCommand, UserEvent, UserRejection};
pub use values::{Email, PersonName, Role};

/// Everything of this context, for `annals::App`.
#[cfg(feature = "runtime")]
pub fn context() -> annals::Context {
    static SCHEMAS: include_dir::Dir<'_> =
        include_dir::include_dir!("$CARGO_MANIFEST_DIR/../../schemas/accounts");
    annals::Context::new("accounts", &SCHEMAS)
        .stream::<User>()
        .read_model::<directory::UserDirectory>()
        .commands(http::commands())
        .queries(directory::queries())
}

#[cfg(all(test, feature = "runtime"))]
mod tests {
    #[test]
    fn events_and_schema_files_agree() {
        let context = super::context();
        event_log::assert_events_match_schemas!(super::UserEvent, context.schemas());
    }
}
