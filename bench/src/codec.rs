//! Encoding and decoding events, beside bare `serde_avro_fast` on the same schema, and through the
//! rules of every older version.
//!
//! Bare, the schema is at hand: the datum goes into and comes out of a struct with the event's
//! fields. Ours is what callers get: from the event's enum to a framed value and back, the schema
//! found by the variant or by the id in the frame, the event type compared, and nothing left over.
//! The datum has the same bytes. The two are measured in turns, so that what disturbs the machine
//! disturbs both.
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::{hint::black_box, time::Instant};

use clap::Args;
use event_log::{avro::EventCodec, migration::Plan};
use serde::{Deserialize, Serialize};
use tasks::{TaskEvent, TaskStatus};

use crate::Result;

#[derive(Args)]
pub struct Options {
    /// How often each thing is done in a round
    #[arg(long, default_value_t = 10_000)]
    times: u32,
    /// Rounds, of which the best counts: the others were disturbed
    #[arg(long, default_value_t = 150)]
    rounds: u32,
}

const CREATED: &str = "annals.tasks.TaskCreated";

/// The same event as a plain record, as somebody would have it without an enum around it.
#[derive(Serialize, Deserialize)]
struct Bare {
    title: String,
    jira_id: Option<String>,
    typed_title: Option<String>,
    description: String,
    status: TaskStatus,
}

/// What the first version wrote, by how the title was typed.
const TYPED: [(&str, &str); 3] = [
    (
        "with an id",
        "AVRO-1234: Sort the records by their second field",
    ),
    (
        "otherwise typed",
        "[AVRO-1234] - Sort the records by their second field",
    ),
    (
        "without an id",
        "Sort the records of the second file by their field",
    ),
];

pub fn run(options: &Options) -> Result<()> {
    let context = tasks::context();
    let schemas = context.schemas();
    let codec = EventCodec::<TaskEvent>::offline(&[schemas])?;
    let event = TaskEvent::TaskCreated {
        title: "Sort the records by their second field".into(),
        jira_id: Some("AVRO-1234".into()),
        typed_title: None,
        description: "They come unsorted since the second file is read first.".into(),
        status: TaskStatus::BirdInACage,
    };
    let bare = Bare {
        title: "Sort the records by their second field".into(),
        jira_id: Some("AVRO-1234".into()),
        typed_title: None,
        description: "They come unsorted since the second file is read first.".into(),
        status: TaskStatus::BirdInACage,
    };
    let text = schemas
        .current("TaskCreated")
        .map(|file| file.text.as_str());
    let schema: serde_avro_fast::Schema = text.unwrap_or_default().parse()?;

    let mut value = Vec::new();
    codec.encode(&event, &mut value)?;
    println!(
        "a TaskCreated of {} bytes, times of one, best of {} rounds",
        value.len(),
        options.rounds
    );

    let mut datum = Vec::with_capacity(512);
    let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
    let mut framed = Vec::with_capacity(512);
    options.compare(
        "encode",
        || {
            framed.clear();
            black_box(codec.encode(black_box(&event), &mut framed)).is_ok()
        },
        || {
            datum.clear();
            let written = serde_avro_fast::to_datum(black_box(&bare), &mut datum, &mut config);
            black_box(written).is_ok()
        },
    );
    assert_eq!(framed, value);
    assert_eq!(datum, value[5..]);
    options.compare(
        "decode",
        || black_box(codec.decode(CREATED, black_box(&value))).is_ok(),
        || {
            let read = serde_avro_fast::from_datum_slice::<Bare>(black_box(&datum), &schema);
            black_box(read).is_ok()
        },
    );

    let history = schemas.history("TaskCreated")?;
    let newest = history.newest();
    for (how, title) in TYPED {
        for version in 1..newest {
            let down = history.plan(1, version)?;
            let older = migrated(&down, &first(title))?;
            let up = history.plan(version, newest)?;
            let mut buffer = Vec::with_capacity(512);
            let through = options.best(|| {
                buffer.clear();
                buffer.extend([0, 0, 0, 0, 1]);
                let led = up.migrate(black_box(&older), &mut buffer);
                led.is_ok() && black_box(codec.decode(CREATED, &buffer)).is_ok()
            });
            println!("decode v{version} as v{newest}, {how:15} {through:7.1} ns");
        }
    }
    for version in 1..newest {
        let mut buffer = Vec::with_capacity(512);
        let older = options.best(|| {
            buffer.clear();
            let encoded = codec.encode_as(black_box(&event), |_| Some(version), &mut buffer);
            black_box(encoded).is_ok()
        });
        println!("encode as v{version}, led back and compared {older:7.1} ns");
    }
    Ok(())
}

impl Options {
    /// Nanoseconds that it takes once, in the best round.
    fn best(&self, mut once: impl FnMut() -> bool) -> f64 {
        self.in_turns([&mut || self.round(&mut once)])[0]
    }

    fn compare(&self, what: &str, mut ours: impl FnMut() -> bool, mut bare: impl FnMut() -> bool) {
        let [ours, bare] =
            self.in_turns([&mut || self.round(&mut ours), &mut || self.round(&mut bare)]);
        let ratio = ours / bare;
        println!("{what} {ours:7.1} ns, bare serde_avro_fast {bare:7.1} ns: {ratio:.2} of it");
    }

    /// The best round of each.
    fn in_turns<const N: usize>(&self, mut rounds: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
        let mut best = [f64::INFINITY; N];
        for _ in 0..self.rounds.max(1) {
            for (best, round) in best.iter_mut().zip(&mut rounds) {
                *best = best.min(round());
            }
        }
        best
    }

    /// # Panics
    /// When it fails: then nothing was measured.
    fn round(&self, once: &mut impl FnMut() -> bool) -> f64 {
        let begin = Instant::now();
        for _ in 0..self.times {
            assert!(once(), "what is to be measured does not work");
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(self.times)
    }
}

/// A datum of the first version, by hand: title, description, the enum's first symbol.
fn first(title: &str) -> Vec<u8> {
    let mut datum = Vec::new();
    for text in [
        title,
        "They come unsorted since the second file is read first.",
    ] {
        datum.push(text.len() as u8 * 2);
        datum.extend(text.as_bytes());
    }
    datum.push(0);
    datum
}

fn migrated(plan: &Plan, datum: &[u8]) -> Result<Vec<u8>> {
    let mut migrated = Vec::new();
    plan.migrate(datum, &mut migrated)?;
    Ok(migrated)
}
