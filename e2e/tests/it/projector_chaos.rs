//! The read side while everything around it breaks; `e2e chaos-projector` does it for longer.

use std::time::Duration;

use e2e::projector_chaos::{Plan, run};

#[tokio::test]
async fn read_models_equal_a_fold_of_the_log_whatever_breaks() {
    let plan = Plan {
        seed: 5,
        // Each fault once.
        duration: Duration::ZERO,
        workers: 2,
        clients: 6,
        // One over server-sent events, one by long-polls.
        followers: 2,
    };
    let report = run(&plan).await.unwrap();
    assert!(report.events > 0);
}
