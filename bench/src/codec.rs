//! Encoding and decoding events, beside bare `serde_avro_fast` on the same schema, and through the
//! rules of every older version.
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
    #[arg(long, default_value_t = 200_000)]
    times: u32,
    /// Rounds, of which the best counts: the others were disturbed
    #[arg(long, default_value_t = 7)]
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

    let mut buffer = Vec::with_capacity(512);
    let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
    let bare_encode = options.best(|| {
        buffer.clear();
        let written = serde_avro_fast::to_datum(black_box(&bare), &mut buffer, &mut config);
        black_box(written).is_ok()
    });
    let mut buffer = Vec::with_capacity(512);
    let encode = options.best(|| {
        buffer.clear();
        black_box(codec.encode(black_box(&event), &mut buffer)).is_ok()
    });
    compared("encode", encode, bare_encode);

    let datum = &value[5..];
    let bare_decode = options.best(|| {
        let read = serde_avro_fast::from_datum_slice::<Bare>(black_box(datum), &schema);
        black_box(read).is_ok()
    });
    let decode = options.best(|| black_box(codec.decode(CREATED, black_box(&value))).is_ok());
    compared("decode", decode, bare_decode);

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
    ///
    /// # Panics
    /// When it fails: then nothing was measured.
    fn best(&self, mut once: impl FnMut() -> bool) -> f64 {
        assert!(once(), "what is to be measured does not work");
        let round = || {
            let begin = Instant::now();
            for _ in 0..self.times {
                assert!(once(), "what is measured works no more");
            }
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(self.times)
        };
        std::iter::repeat_with(round)
            .take(self.rounds.max(1) as usize)
            .fold(f64::INFINITY, f64::min)
    }
}

fn compared(what: &str, ours: f64, bare: f64) {
    let ratio = ours / bare;
    println!("{what} {ours:7.1} ns, bare serde_avro_fast {bare:7.1} ns: {ratio:.2} of it");
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
