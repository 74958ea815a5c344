//! Schemas that are made to hurt: the longest that one takes to be answered, and what all of them
//! leave behind in memory.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Result,
    figures::{Figures, Target},
    http::Connection,
    role::Role,
};

const TRIES: usize = 5;
/// How many a subject has.
const VERSIONS: usize = 20;
/// Fields of a version: with the first so many all versions together are more than is compared at
/// once, with the second nearly as much.
const WIDE: [(&str, usize); 2] = [("too-wide", 15_000), ("wide", 1_500)];
const SOON: Option<Target> = Some(Target::AtMost(100.0));

pub async fn measure(registry: &Role, figures: &Figures) -> Result<()> {
    let mut client = Client(Connection::open(registry.address).await?);
    let before = registry.resident_bytes()?;
    let mut checked = Duration::ZERO;
    let mut registered = Duration::ZERO;
    for (number, schema) in schemas().iter().enumerate() {
        for version in 0..TRIES {
            // Held against no version, and against the one before.
            let path = "/compatibility/subjects/hostile/versions";
            checked = checked.max(client.post(path, schema, version).await?);
            let path = format!("/subjects/hostile-{number}/versions");
            registered = registered.max(client.post(&path, schema, version).await?);
        }
    }
    tell(figures, "hostile schemas, checked", checked);
    tell(figures, "hostile schemas, registered", registered);
    for (subject, fields) in WIDE {
        client.fill(subject, fields).await?;
        let (mut checked, mut registered) = (Duration::ZERO, Duration::ZERO);
        let next = record(&many(fields, &field));
        for schema in schemas().iter().chain([&next]) {
            for version in VERSIONS..VERSIONS + TRIES {
                let path = format!("/compatibility/subjects/{subject}/versions");
                checked = checked.max(client.post(&path, schema, version).await?);
            }
            let path = format!("/subjects/{subject}/versions");
            registered = registered.max(client.post(&path, schema, VERSIONS).await?);
        }
        let name = format!("{VERSIONS} versions, {fields} fields");
        tell(figures, &format!("{name}, checked"), checked);
        tell(figures, &format!("{name}, registered"), registered);
    }
    let more = (registry.resident_bytes()? - before) / f64::from(1 << 20);
    let most = Some(Target::AtMost(64.0));
    figures.figure("hostile schemas", "more_megabytes", more, most);
    Ok(())
}

fn tell(figures: &Figures, what: &str, worst: Duration) {
    figures.figure(what, "worst_ms", worst.as_secs_f64() * 1e3, SOON);
}

struct Client(Connection);

impl Client {
    /// Asks with a schema that says its version, so that each is another one, and gives the time
    /// until the answer.
    async fn post(&mut self, path: &str, schema: &str, version: usize) -> Result<Duration> {
        let schema = schema.replacen("\"type\"", &format!("\"version\":{version},\"type\""), 1);
        let began = self.ask("POST", path, &json!({ "schema": schema })).await?;
        Ok(began.elapsed())
    }

    /// Gives the subject its versions, and then the level at which all of them count.
    async fn fill(&mut self, subject: &str, fields: usize) -> Result<()> {
        let config = format!("/config/{subject}");
        let level = |level: &str| json!({ "compatibility": level });
        self.ask("PUT", &config, &level("NONE")).await?;
        let path = format!("/subjects/{subject}/versions");
        let schema = record(&many(fields, &field));
        for version in 0..VERSIONS {
            self.post(&path, &schema, version).await?;
        }
        self.ask("PUT", &config, &level("FULL_TRANSITIVE")).await?;
        let path = format!("/subjects/{subject}/versions/{VERSIONS}");
        self.ask("GET", &path, &Value::Null).await?;
        let found: Value = serde_json::from_str(self.0.body())?;
        match found["version"].as_u64() {
            Some(_) => Ok(()),
            None => Err(format!("{subject} has not got its versions: {found}").into()),
        }
    }

    /// When the request was sent, of which the answer is there.
    async fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<Instant> {
        let body = body.to_string();
        let mut request = Vec::new();
        write!(
            request,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let began = Instant::now();
        self.0.ask(&request).await?;
        Ok(began)
    }
}

fn schemas() -> Vec<String> {
    let letters = |n: usize| [n / 17_576, n / 676, n / 26, n].map(|n| b'a' + (n % 26) as u8);
    let symbol = |n: usize| format!("\"{}\"", String::from_utf8_lossy(&letters(n)));
    let plain = |n: usize| format!(r#"{{"name":"f{n}","type":"int"}}"#);
    let optional = |n: usize| format!(r#"{{"name":"f{n}","type":["null","int"]}}"#);
    let fixed = |n: usize| format!(r#"{{"type":"fixed","name":"F{n}","size":1}}"#);
    let array = r#"{"type":"array","items":"#;
    vec![
        "{".repeat(500_000),
        format!("{}\"int\"{}", array.repeat(10_000), "}".repeat(10_000)),
        format!(r#"{{"type":"string","doc":"{}"}}"#, "x".repeat(900_000)),
        format!(
            r#"{{"type":"string","x":[{}]}}"#,
            vec!["[]"; 300_000].join(",")
        ),
        format!(
            r#"{{"type":"enum","name":"E","symbols":[{}]}}"#,
            many(100_000, &symbol)
        ),
        record(&many(15_000, &field)),
        record(&many(20_000, &plain)),
        record(&many(17_000, &optional)),
        record(&format!(
            r#"{{"name":"f","type":[{}]}}"#,
            many(17_000, &fixed)
        )),
        record(r#"{"name":"f","type":"R"}"#),
        record(&format!(r#"{},{}"#, many(15_000, &field), field(14_999))),
        record(r#"{"name":"f","type":"int","default":"x"}"#),
    ]
}

fn field(n: usize) -> String {
    format!(r#"{{"name":"f{n}","type":"int","default":0}}"#)
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn many(count: usize, one: &dyn Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(",")
}
