//! A command service that is killed under load and started again over its log.

use e2e::TestApp;

use crate::load::{Load, assert_all_on_board, assert_exactly_once};

#[tokio::test]
async fn a_killed_command_service_loses_and_doubles_nothing() {
    let app = TestApp::start().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, 20);
    for answered in [50, 200, 350] {
        load.until_answered(answered).await;
        let unanswered = load.unanswered();
        app.commands.kill().await;
        load.until_unanswered(unanswered + 1).await;
        app.run(&app.commands);
    }
    let commands = load.end().await;
    assert_exactly_once(&app, &commands).await;
    assert_all_on_board(&mia, &commands).await;
}

#[tokio::test]
async fn a_killed_projector_goes_on_where_its_rows_end() {
    let app = TestApp::start().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, 20);
    for answered in [50, 200, 350] {
        load.until_answered(answered).await;
        app.projector.kill().await;
        app.run(&app.projector);
    }
    let commands = load.end().await;
    app.until_ready().await;
    assert_all_on_board(&mia, &commands).await;
}

#[tokio::test]
async fn a_command_service_that_is_asked_to_end_answers_what_it_took() {
    let app = TestApp::start().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, 10);
    load.until_answered(100).await;
    let status = app.commands.running().stop().await;
    assert!(status.success(), "{}", app.commands.running().stderr());
    app.run(&app.commands);
    let commands = load.end().await;
    assert_exactly_once(&app, &commands).await;
}
