//! `annals demo migration`: what the story tells is true, or it ends with an error.

use e2e::{Process, annals, new_key};

/// What has to be told, in this order.
const STORY: [&str; 13] = [
    "all of them in version 1",
    "1. Register",
    "$ annals schema verify",
    "events come through",
    "2. Readers of both versions",
    "3. Writers of the new version",
    "409 not-active",
    "is written in version 2 from now on",
    "4. Retire the old",
    "and missed none",
    "5. And back",
    "is written in version 1 from now on",
    "No event was lost at any step",
];

#[tokio::test]
async fn a_schema_is_migrated_while_people_work_and_taken_back() {
    let stack = dev_stack::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = annals();
    command
        .args(["demo", "migration"])
        .current_dir(folder.path())
        .env("ANNALS_KAFKA", stack.kafka())
        .env("ANNALS_POSTGRES", stack.fresh_database().await.unwrap())
        .env(
            "ANNALS_SCHEMA_REGISTRY__TOPIC",
            format!("annals.schemas.{}", new_key()),
        );
    let demo = Process::start(command);
    let status = demo.ended().await;
    let told = demo.stdout();
    assert!(status.success(), "{told}{}", demo.stderr());
    let mut rest = &*told;
    for line in STORY {
        let found = rest.split_once(line);
        rest = found
            .unwrap_or_else(|| panic!("no {line:?} in its place in\n{told}"))
            .1;
    }
}
