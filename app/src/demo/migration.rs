//! The migration story, which `annals demo migration` plays: a tracker's id moves out of the title
//! into a field of its own, in an event that is in the log already, while people go on working.
//!
//! Two versions of a consumer read along side by side; what they see is counted at every step.

mod people;
mod reader;

use std::time::Duration;

use annals::{Demo, DemoError, DemoFuture};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{api::StoryError, narrator::Narrator, table::Table};
use people::{Form, People};
use reader::{New, Old, Reader};

/// How many tasks are to come before the story goes on.
const SOME: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn play(demo: Demo) -> DemoFuture {
    Box::pin(async move { tell(&demo).await })
}

async fn tell(demo: &Demo) -> Result<(), DemoError> {
    let mut narrator = Narrator::new();
    narrator.title("A schema migration: a tracker's id moves out of the title, and nobody waits");
    narrator.say(
        "People type a tracker's id into the title, each in their own way: \"[AVRO-2486] Don't \
         ignore fwrite error\".\nThese titles are in the log for good. Version 2 of TaskCreated \
         has a field `jira_id`; the story brings it into\na running system. Meanwhile people create \
         tasks, and a consumer of the release before reads every one of them.\n",
    );
    let people = People::begin(demo);
    let old = Reader::<Old>::begin(demo).await?;
    until("people work", || people.created() >= SOME).await?;
    let created = people.created();
    until("the old consumer has seen every task", || {
        old.seen().tasks() >= created
    })
    .await?;
    narrator.say(&format!(
        "So far {created} tasks, all of them in version 1; the old consumer has seen them all.",
    ));

    narrator.step(
        "Register: the new version and the rules that lead to it and back, proved on every event",
        0,
    );
    narrator.say(
        "   In the development stack, `annals up` has registered what this binary knows; elsewhere \
         it takes\n   `annals schema plan --out plan.json`, verify --report report.json, and apply \
         plan.json --verified report.json.",
    );
    run(
        demo,
        &narrator,
        &["schema", "diff", "TaskCreated", "1", "2"],
    )
    .await?;
    run(demo, &narrator, &["schema", "verify"]).await?;

    narrator.step("Readers of both versions start beside the old ones", 0);
    let new = Reader::<New>::begin(demo).await?;
    both_see_everything(&people, &old, &new).await?;
    narrator.say(&side_by_side(&old, &new));
    narrator.done("the same tasks: the new consumer reads version 1 as version 2, by the rules");

    narrator.step("Writers of the new version: a switch, not a deployment", 0);
    // Version 1 could not give these blanks back.
    let padded = json!({ "title": "  Sort the records", "jira_id": "AVRO-12" });
    let answer = people.send("padded", &padded).await?;
    expect(
        "a title that version 1 cannot hold",
        &answer,
        StatusCode::CONFLICT,
    )?;
    narrator.say(&format!(
        "   What version 1 could not give back is refused until then: 409 {}",
        answer.text("code").unwrap_or_default()
    ));
    run(demo, &narrator, &["schema", "activate", "TaskCreated", "2"]).await?;
    people.fill_in(Form::TwoFields);
    let written = || new.seen().written_in(2) >= SOME;
    until("version 2 is written", written).await?;
    both_see_everything(&people, &old, &new).await?;
    let answer = people.send("padded", &padded).await?;
    expect(
        "the same command, with the same key",
        &answer,
        StatusCode::CREATED,
    )?;
    narrator.say(&side_by_side(&old, &new));
    narrator.done(&format!(
        "{} tasks are written in version 2 by now; the old consumer reads them as version 1, by \
         the rule that leads back",
        new.seen().written_in(2)
    ));

    narrator.step("Retire the old: nobody needs it any more", 0);
    both_see_everything(&people, &old, &new).await?;
    let seen_by_the_old = old.end().await;
    narrator.done(&format!(
        "the old consumer ends; it has seen {seen_by_the_old} tasks, and missed none"
    ));

    narrator.step(
        "And back: version 1 is written again, and nothing has to be repaired",
        0,
    );
    people.fill_in(Form::OneField);
    run(demo, &narrator, &["schema", "activate", "TaskCreated", "1"]).await?;
    let before = new.seen().written_in(1);
    until("version 1 is written again", || {
        new.seen().written_in(1) >= before + SOME
    })
    .await?;
    let created = people.end().await?;
    until("the new consumer has seen everything", || {
        new.seen().tasks() >= created
    })
    .await?;
    let seen = new.seen();
    let (first, second) = (seen.written_in(1), seen.written_in(2));
    narrator.done(&format!(
        "{first} tasks in version 1, {second} in version 2, in one log"
    ));
    if seen.tasks() != created || seen.events() != created {
        return Err(untrue(format!(
            "{created} tasks were created, but {} events of {} tasks were read",
            seen.events(),
            seen.tasks()
        )));
    }
    narrator.say(&format!(
        "\nNo event was lost at any step: {created} tasks were created, and the new consumer has \
         seen {}, each once.",
        seen.tasks()
    ));
    Ok(())
}

/// As an operator types it, with what it prints.
async fn run(demo: &Demo, narrator: &Narrator, arguments: &[&str]) -> Result<(), DemoError> {
    let verb = demo.verb(arguments).await?;
    narrator.say(&format!("   $ annals {}", arguments.join(" ")));
    for line in verb.told.lines() {
        narrator.say(&format!("     {line}"));
    }
    match verb.succeeded {
        true => Ok(()),
        false => Err(untrue(format!("annals {} failed", arguments.join(" ")))),
    }
}

/// What was created before this was called.
async fn both_see_everything(
    people: &People,
    old: &Reader<Old>,
    new: &Reader<New>,
) -> Result<(), DemoError> {
    let created = people.created();
    until("both consumers have seen every task", || {
        old.seen().tasks() >= created && new.seen().tasks() >= created
    })
    .await
}

/// Some tasks as each of the consumers has them.
fn side_by_side(old: &Reader<Old>, new: &Reader<New>) -> String {
    let (old, new) = (old.seen(), new.seen());
    let both = new.newest().filter_map(|(task, title, version)| {
        let typed = old.title(task)?;
        Some([format!("v{version}"), typed.to_owned(), title.to_owned()])
    });
    let mut table = Table::new([
        "written in",
        "the old consumer reads",
        "the new consumer reads",
    ]);
    both.take(3).for_each(|row| table.row(row));
    table.to_string()
}

async fn until(what: &str, is_true: impl Fn() -> bool) -> Result<(), DemoError> {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        if Instant::now() >= deadline {
            return Err(untrue(format!("waited in vain until {what}")));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn expect(step: &str, answer: &super::api::Answer, status: StatusCode) -> Result<(), DemoError> {
    match answer.status == status {
        true => Ok(()),
        false => Err(Box::new(StoryError::Unexpected {
            step: step.into(),
            status: answer.status,
            body: answer.body.clone(),
        })),
    }
}

fn untrue(what: String) -> DemoError {
    Box::new(StoryError::Untrue {
        step: "the migration".into(),
        what,
    })
}
