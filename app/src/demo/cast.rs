//! Who is in the story.

use serde_json::json;

use super::{
    api::{Api, StoryError},
    boards::{self, Colleague},
    narrator::Narrator,
    work::untrue,
};

pub(super) struct Person {
    pub name: &'static str,
    pub role: &'static str,
}

pub(super) const ADMIN: &str = "ada";
pub(super) const MANAGER: &str = "mia";
pub(super) const WORKERS: [&str; 4] = ["coco", "kiwi", "polly", "rio"];

pub(super) const EVERYBODY: &[Person] = &[
    person(ADMIN, "admin"),
    person(MANAGER, "manager"),
    person(WORKERS[0], "worker"),
    person(WORKERS[1], "worker"),
    person(WORKERS[2], "worker"),
    person(WORKERS[3], "worker"),
];

const fn person(name: &'static str, role: &'static str) -> Person {
    Person { name, role }
}

/// Everybody but the admin, who registers them, registers once in the life of the log. Who
/// they are from then on, the directory tells: tokens name people by their ids.
pub(super) async fn register(api: &mut Api<'_>, narrator: &mut Narrator) -> Result<(), StoryError> {
    let others = || EVERYBODY.iter().filter(|person| person.name != ADMIN);
    narrator.step("ada, the admin, registers a manager and four workers", 5);
    for person in EVERYBODY.iter().filter(|person| person.name == ADMIN) {
        api.sign_on(person, ADMIN);
    }
    let mut new = 0;
    for Person { name, role } in others() {
        let email = format!("{name}@parrots.example");
        let body = json!({ "email": email, "name": name, "role": role });
        // The key is that of an earlier run, which may have been long forgotten.
        let key = format!("demo-register-{name}");
        let answer = api.send(ADMIN, &key, "/v1/users", body).await?;
        match (answer.status.as_u16(), answer.replayed, answer.text("code")) {
            (201, false, _) => new += 1,
            (201, true, _) | (409, _, Some("email-taken")) => {}
            _ => return Err(answer.unexpected(format!("registering {name}"))),
        }
        narrator.progress();
    }
    let colleagues: Vec<Colleague> = boards::colleagues(api).await?;
    for person in others() {
        let registered = colleagues.iter().find(|it| it.name == person.name);
        let Some(Colleague { id, .. }) = registered else {
            let what = format!("{} is not in the directory", person.name);
            return Err(untrue("reading the directory", what));
        };
        api.sign_on(person, id);
    }
    narrator.done(&match new {
        0 => "they were registered by an earlier run".into(),
        new => format!("{new} registered"),
    });
    Ok(())
}
