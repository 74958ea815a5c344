//! Other people's rules: JSONATA expressions, bounded in time, depth and length.
//!
//! The evaluator shares its values without locks and may go deep, so that it lives in a thread of
//! its own with a stack of its own; callers wait for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use jsonata_core::{
    ast::AstNode,
    evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions},
    parser,
    value::JValue,
};
use serde_json::Value as Json;

use super::plan::Evaluated;

/// An expression that was read and found to be well-formed.
#[derive(Clone, Debug)]
pub(super) struct Expression(Arc<str>);

const LONGEST_EXPRESSION: usize = 64 * 1024;
/// One event takes microseconds; this much only an expression that does not end.
const LONGEST_TIME: Duration = Duration::from_secs(2);
const DEEPEST: usize = 500;
const LONGEST_SEQUENCE: usize = 100_000;
const STACK_BYTES: usize = 32 * 1024 * 1024;
/// Read expressions that the thread keeps.
const KEPT: usize = 256;
/// What gives another result each time: an event must be read as the same for ever.
const REFUSED: [&str; 5] = ["now", "millis", "random", "shuffle", "eval"];

impl Expression {
    /// # Errors
    /// It is not well-formed, or longer than 64 kB.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_EXPRESSION {
            return Err(format!("it is longer than {LONGEST_EXPRESSION} bytes"));
        }
        let expression = Self(text.into());
        ask(&expression.0, None).map(|_| expression)
    }

    /// What the expression makes of an event.
    ///
    /// # Errors
    /// It fails, has no result, or takes too long, too deep a stack or too long a sequence.
    pub fn evaluate(&self, event: Json) -> Evaluated {
        ask(&self.0, Some(event))
    }
}

/// An expression to be read, and to be evaluated if there is an event.
struct Job {
    expression: Arc<str>,
    event: Option<Json>,
    answer: SyncSender<Evaluated>,
}

/// The thread that works at present.
static WORKER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

fn ask(expression: &Arc<str>, event: Option<Json>) -> Evaluated {
    let (answer, answered) = sync_channel(1);
    let job = Job {
        expression: expression.clone(),
        event,
        answer,
    };
    let mut worker = WORKER.lock().unwrap_or_else(PoisonError::into_inner);
    let jobs = match &*worker {
        Some(jobs) => jobs.clone(),
        None => worker.insert(start()?).clone(),
    };
    let sent = jobs.send(job);
    drop(worker);
    // Others may be in the queue before us; none of them takes longer than its time.
    let answer = sent
        .map_err(|_| RecvTimeoutError::Disconnected)
        .and_then(|()| answered.recv_timeout(LONGEST_TIME * 4));
    answer.unwrap_or_else(|_| {
        // Whatever it does, nobody waits for it any more.
        WORKER.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err("the evaluator did not answer in time".into())
    })
}

fn start() -> Result<Sender<Job>, String> {
    let (jobs, queue) = channel();
    let named = thread::Builder::new().name("jsonata".into());
    let started = named.stack_size(STACK_BYTES).spawn(move || work(&queue));
    match started {
        Ok(_) => Ok(jobs),
        Err(error) => Err(format!("no thread can be started: {error}")),
    }
}

fn work(queue: &Receiver<Job>) {
    let mut read: HashMap<Arc<str>, AstNode> = HashMap::new();
    for job in queue {
        let result = match read.get(&job.expression) {
            Some(ast) => evaluate(ast, job.event),
            None => match parser::parse(&job.expression) {
                Ok(ast) => {
                    if read.len() >= KEPT {
                        read.clear();
                    }
                    let ast = read.entry(job.expression).or_insert(ast);
                    evaluate(ast, job.event)
                }
                Err(error) => Err(error.to_string()),
            },
        };
        // Who asked may have gone.
        let _ = job.answer.send(result);
    }
}

fn evaluate(ast: &AstNode, event: Option<Json>) -> Evaluated {
    let Some(event) = event else {
        return Ok(Json::Null);
    };
    let options = EvaluatorOptions {
        timeout_ms: Some(LONGEST_TIME.as_millis() as u64),
        max_stack_depth: Some(DEEPEST),
        max_sequence_length: Some(LONGEST_SEQUENCE),
        ..EvaluatorOptions::default()
    };
    let mut evaluator = Evaluator::with_options(Context::new(), options);
    for name in REFUSED {
        let refuse = move |_: &[JValue]| -> Result<JValue, EvaluatorError> {
            Err(EvaluatorError::EvaluationError(format!(
                "${name} is not for migrations: it gives another result each time, or hides what it does"
            )))
        };
        evaluator
            .register_fn_override(name, refuse)
            .map_err(|error| error.to_string())?;
    }
    match evaluator.evaluate(ast, &JValue::from(event)) {
        Ok(JValue::Undefined) => Err("it has no result".into()),
        Ok(result) => Ok(Json::from(&result)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluated(expression: &str) -> Evaluated {
        let event = json!({ "name": "Ada", "tags": ["a", "b"] });
        Expression::compile(expression)?.evaluate(event)
    }

    #[test]
    fn an_expression_makes_another_event() {
        let made = evaluated(r#"{ "title": $uppercase(name), "tags": tags[$ != "a"][] }"#);
        assert_eq!(made, Ok(json!({ "title": "ADA", "tags": ["b"] })));
        assert_eq!(
            evaluated("$merge([$, {'name': 'Bob'}]).name"),
            Ok(json!("Bob"))
        );
    }

    #[test]
    fn what_does_not_end_is_ended() {
        for endless in [
            "($f := function($n) { $f($n + 1) }; $f(0))",
            "($f := function($n) { 1 + $f($n + 1) }; $f(0))",
            "[1..100000000]",
            "$map([1..99999], function($a) { $map([1..99999], function($b) { $a * $b }) })",
        ] {
            let result = evaluated(endless);
            assert!(result.is_err(), "{endless}: {result:?}");
        }
        assert_eq!(evaluated("name"), Ok(json!("Ada")));
    }

    #[test]
    fn what_is_different_each_time_is_refused() {
        for expression in [
            "$now()",
            "$millis()",
            "$random()",
            "$shuffle(tags)",
            "$eval('1')",
        ] {
            let refused = evaluated(expression).unwrap_err();
            assert!(
                refused.contains("not for migrations"),
                "{expression}: {refused}"
            );
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_at_once() {
        let deep = "(".repeat(50_000);
        for text in ["", "{", "a b", &deep, &"x".repeat(70_000)] {
            assert!(Expression::compile(text).is_err(), "{:.20}", text);
        }
        assert_eq!(evaluated("nothing"), Err("it has no result".into()));
    }
}
