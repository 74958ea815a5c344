//! The demo story, which `annals up --demo` plays over HTTP, as any client would.
//!
//! A company of parrots hands out tasks: people register, tasks are created, handed out, handed
//! on and completed; then the boards are read as of the last command.

mod api;
mod boards;
mod cast;
pub(crate) mod migration;
mod narrator;
mod table;
mod work;

use annals::{Demo, DemoFuture};

use api::{Api, StoryError};
use narrator::Narrator;

pub(crate) fn play(demo: Demo) -> DemoFuture {
    Box::pin(async move { Ok(tell(&demo).await?) })
}

async fn tell(demo: &Demo) -> Result<(), StoryError> {
    let mut narrator = Narrator::new();
    let mut api = Api::new(demo);
    narrator.title("The task exchange: a company of parrots hands out tasks");

    cast::register(&mut api, &mut narrator).await?;
    let earlier = boards::all_tasks(&api).await?.len();
    let mut work = work::Work::new(earlier);
    work.create(&mut api, &mut narrator).await?;
    work.hand_on(&mut api, &mut narrator).await?;
    work.complete(&mut api, &mut narrator).await?;
    work.try_what_is_refused(&mut api, &mut narrator).await?;
    work.send_one_twice(&mut api, &mut narrator).await?;
    boards::show(&api, &work, &mut narrator).await?;

    try_it_yourself(demo, api.id_of(cast::WORKERS[2]), &narrator);
    Ok(())
}

fn try_it_yourself(demo: &Demo, polly: &str, narrator: &Narrator) {
    let Demo {
        commands,
        queries,
        stays_up,
        ..
    } = demo;
    if !stays_up {
        return narrator.say("\nTo go on with it by hand, start it again without --once.");
    }
    let annals = this_binary();
    narrator.say(&format!(
        r#"
Try it yourself, in another terminal and this folder:

  # polly, whom tokens name by her id
  token=$({annals} token --user {polly} --role worker)

  # her open tasks
  curl -sw '\n' -H "Authorization: Bearer $token" 'http://{queries}/v1/my/tasks?limit=3'

  # a new task; its id follows from the key, so sent again it is the same task
  curl -isw '\n' -H "Authorization: Bearer $token" -H "Idempotency-Key: $(date +%s)" \
    -H 'Content-Type: application/json' -d '{{"title": "Feed the parrots", "jira_id": "AVRO-1"}}' \
    http://{commands}/v1/tasks

  # everything that can be asked for
  curl -sw '\n' http://{commands}/openapi.json http://{queries}/openapi.json"#
    ));
}

/// As it can be typed where the story was started.
fn this_binary() -> String {
    let Ok(binary) = std::env::current_exe() else {
        return "annals".into();
    };
    let here = std::env::current_dir().unwrap_or_default();
    binary
        .strip_prefix(here)
        .unwrap_or(&binary)
        .display()
        .to_string()
}
