//! The task exchange on Annals.

mod demo;

fn main() -> std::process::ExitCode {
    annals::App::new([accounts::context(), tasks::context()])
        .demo(demo::play)
        .migration_demo(demo::migration::play)
        .run()
}
