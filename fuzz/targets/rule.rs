//! Any text as the rule from the first version of an event to the second, and, behind a zero byte,
//! any bytes as an event: refused, found at fault by the check, or the event is led there or not.
#![no_main]

use event_log::migration::{History, Migration};
use libfuzzer_sys::fuzz_target;

const ONE: &str = include_str!("../../schemas/tasks/TaskCreated.v1.avsc");
const TWO: &str = include_str!("../../schemas/tasks/TaskCreated.v2.avsc");

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (rule, event) = bytes.split_at(end.unwrap_or(bytes.len()));
    let Ok(text) = std::str::from_utf8(rule) else {
        return;
    };
    let Ok(migration) = Migration::parse(text) else {
        return;
    };
    let mut history = History::default();
    history.push(ONE, None).expect("it is a schema");
    history.push(TWO, Some(migration)).expect("it is a schema");
    let checked = history.check(2).expect("both versions are there");
    let plan = history.plan(1, 2);
    assert!(
        plan.is_ok() || !checked.is_ok(),
        "the check passed: {plan:?}"
    );
    if let Ok(plan) = plan {
        let _ = plan.migrate(event.get(1..).unwrap_or_default(), &mut Vec::new());
    }
});
