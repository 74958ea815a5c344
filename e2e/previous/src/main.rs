//! The release before this one, as rolling deploys meet it.
//!
//! The platform is today's; the tasks context is frozen as it was when `TaskCreated` had one
//! version: its schema files, events, rules, command routes and board. It reads and writes version
//! 1 and knows of no other. It has no queries: those are asked of today's release. Change nothing
//! here, unless the platform asks for it.

mod tasks;

fn main() -> std::process::ExitCode {
    annals::App::new([accounts::context(), tasks::context()]).run()
}
