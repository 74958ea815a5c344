//! The same key means the same command: it is carried out once, and its answer is the same.

use e2e::{Answer, TestApp, new_key};
use futures::future::join_all;

use crate::{app, raw_log};

#[tokio::test]
async fn a_repeated_command_gets_the_first_answer_and_appends_nothing() {
    let app = app().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let created = mia.create_task("x");
    let first = created.send().await.succeeded();
    let id = first.id();
    let (assigned, completed) = (mia.assign(&id, "polly"), polly.complete(&id));
    let mut answers = vec![first];
    answers.push(assigned.send().await.succeeded());
    answers.push(completed.send().await.succeeded());

    for (command, first) in [created, assigned, completed].iter().zip(&answers) {
        assert!(!first.is_replayed());
        let again = command.send().await;
        assert!(again.is_replayed());
        assert_same(&again, first);
    }
    assert_eq!(versions_of(&app, answers[0].text("stream")), [1, 2, 3]);
}

#[tokio::test]
async fn a_key_that_is_used_for_another_command_is_refused() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let key = new_key();
    let first = mia.create_task("x").key(&key).send().await.succeeded();
    let other_title = mia.create_task("y").key(&key);
    let other_expectation = mia.create_task("x").key(&key).header("if-none-match", "*");
    for another in [other_title, other_expectation] {
        another
            .send()
            .await
            .is_problem(422, "idempotency-key-reused");
    }
    // The scope of a key is the stream: assigning is on the task's, which creating made.
    let id = first.id();
    let same_stream = mia.assign(&id, "polly").key(&key);
    same_stream
        .send()
        .await
        .is_problem(422, "idempotency-key-reused");
    let other = mia.create_task("z").send().await.succeeded().id();
    let other_stream = mia.assign(&other, "polly").key(&key);
    other_stream.send().await.succeeded();
    // Somebody else's key is another one.
    let other_actor = company.manager("max").create_task("y").key(&key);
    assert_ne!(other_actor.send().await.succeeded().id(), id);
    assert_eq!(versions_of(&app, first.text("stream")), [1]);
}

#[tokio::test]
async fn fifty_duplicates_at_once_are_one_command() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let command = mia.create_task("once");
    let answers = join_all((0..50).map(|_| command.send())).await;
    for answer in &answers {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_same(answer, &answers[0]);
    }
    let original = answers.iter().filter(|it| !it.is_replayed()).count();
    assert!(
        original <= 1,
        "{original} answers say that they are the first"
    );
    assert_eq!(versions_of(&app, answers[0].text("stream")), [1]);
}

#[tokio::test]
async fn what_became_of_a_command_can_be_asked() {
    let app = app().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let key = new_key();
    let recall = format!("/v1/commands/{key}");
    mia.recall(&recall).await.is_problem(404, "unknown-command");
    let first = mia.create_task("x").key(&key).send().await.succeeded();
    let recalled = mia.recall(&recall).await.succeeded();
    assert_eq!(recalled.body, first.body);
    polly
        .recall(&recall)
        .await
        .is_problem(404, "unknown-command");

    let id = first.id();
    let key = new_key();
    let assigned = mia.assign(&id, "polly").key(&key).send().await.succeeded();
    let recall = format!("/v1/commands/{key}?stream=task/{id}");
    assert_eq!(mia.recall(&recall).await.succeeded().body, assigned.body);

    // A rejection appends nothing and is not recorded.
    let key = new_key();
    let rejected = mia.complete(&id).key(&key).send().await;
    rejected.is_problem(403, "not-the-assignee");
    let recall = format!("/v1/commands/{key}?stream=task/{id}");
    mia.recall(&recall).await.is_problem(404, "unknown-command");
    mia.recall("/v1/commands/two%20words")
        .await
        .is_problem(422, "invalid-field");
    mia.recall("/v1/commands/k?stream=nonsense")
        .await
        .is_problem(422, "invalid-field");
}

/// All that a client may rely on.
#[track_caller]
pub(crate) fn assert_same(answer: &Answer, first: &Answer) {
    let promised = |answer: &Answer| {
        let header = |name| answer.header(name).map(str::to_owned);
        (
            answer.status,
            answer.body.clone(),
            ["etag", "location", "annals-position"].map(header),
        )
    };
    assert_eq!(promised(answer), promised(first));
}

/// The versions of a stream's events, in the order of the log.
fn versions_of(app: &TestApp, stream: &str) -> Vec<u64> {
    let events = raw_log::read(app, "tasks");
    let of_stream = events.iter().filter(|event| event.stream() == stream);
    of_stream.map(|event| event.version()).collect()
}
