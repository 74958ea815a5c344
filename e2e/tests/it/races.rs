//! Two writers with the same knowledge cannot both win.

use e2e::Answer;
use futures::future::join_all;

use crate::{app, raw_log};

#[tokio::test]
async fn of_twenty_with_the_same_version_one_wins() {
    let app = app().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let task = mia.create_task("x").send().await.succeeded();
    let id = task.id();

    let assign = |n| mia.assign(&id, &format!("worker-{n}")).if_match(1);
    let assigned = join_all((0..20).map(async |n| assign(n).send().await)).await;
    one_wins(assigned, 2);

    mia.assign(&id, "polly")
        .if_match(2)
        .send()
        .await
        .succeeded();
    let complete = || polly.complete(&id).if_match(3);
    let completed = join_all((0..20).map(async |_| complete().send().await)).await;
    one_wins(completed, 4);

    let events = raw_log::read(&app, "tasks");
    let events = events
        .iter()
        .filter(|it| it.stream() == task.text("stream"));
    let versions: Vec<_> = events.map(|event| event.version()).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
}

fn one_wins(answers: Vec<Answer>, version: u64) {
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Answer::is_success);
    assert_eq!(won.len(), 1, "{won:#?}");
    assert_eq!(won[0].number("version"), version);
    for answer in lost {
        let answer = answer.is_problem(412, "stale-version");
        assert_eq!(answer.number("current_version"), version);
    }
}
