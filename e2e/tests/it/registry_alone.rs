//! `annals registry` with nothing but a Postgres: a registry for other people's Kafka.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use e2e::{Process, annals, choose_crypto, eventually, free_port};
use futures::future::join_all;
use serde_json::{Value, json};

const WRITE: (&str, &str) = ("ANNALS_SCHEMA_REGISTRY__ANONYMOUS", "write");
/// What hostile schemas may cost.
const MOST_BYTES: u64 = 64 << 20;

struct Alone {
    url: String,
    http: reqwest::Client,
    process: Process,
}

impl Alone {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let postgres = dev_stack::shared().await.fresh_database().await.unwrap();
        Self::start_on(&postgres, settings).await
    }

    async fn start_on(postgres: &str, settings: &[(&str, &str)]) -> Self {
        let address = free_port().to_string();
        let data = tempfile::tempdir().unwrap();
        let mut command = annals();
        command
            .arg("registry")
            .env("ANNALS_POSTGRES", postgres)
            .env("ANNALS_SCHEMA_REGISTRY__ADDRESS", &address)
            .env("ANNALS_DATA", data.path())
            .envs(settings.iter().copied());
        choose_crypto();
        let alone = Self {
            url: format!("http://{address}"),
            http: reqwest::Client::new(),
            process: Process::start(command),
        };
        eventually("the registry is ready", async || {
            assert!(!alone.process.has_ended(), "{}", alone.process.stderr());
            let answer = alone.http.get(format!("{}/health/ready", alone.url));
            (answer.send().await.ok()?.status() == 200).then_some(())
        })
        .await;
        alone
    }

    /// The status, and the body or its error code.
    async fn register(&self, subject: &str, schema: &str) -> (u16, Value) {
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let request = self.http.post(url).json(&json!({ "schema": schema }));
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// The most memory that it ever had.
    fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }
}

#[tokio::test]
async fn a_registry_needs_a_postgres_and_nothing_else() {
    let users = r#"[{name="ada", password="a secret", role="write"}]"#;
    let registry = Alone::start(&[
        ("ANNALS_SCHEMA_REGISTRY__USERS", users),
        ("ANNALS_SCHEMA_REGISTRY__ANONYMOUS", "read"),
    ])
    .await;
    let (status, refused) = registry.register("s", r#""string""#).await;
    assert_eq!((status, &refused["error_code"]), (401, &json!(40101)));
    let url = format!("{}/subjects/s/versions", registry.url);
    let answer = registry
        .http
        .post(url)
        .basic_auth("ada", Some("a secret"))
        .json(&json!({"schema": r#""string""#}))
        .send()
        .await
        .unwrap();
    let registered: Value = answer.json().await.unwrap();
    assert_eq!(registered["id"], 1, "{registered}");
    let answer = reqwest::get(format!("{}/schemas/ids/1", registry.url)).await;
    let found: Value = answer.unwrap().json().await.unwrap();
    assert_eq!(found["schema"], r#""string""#);
    assert!(registry.process.stop().await.success());
}

#[tokio::test]
async fn hostile_schemas_cost_little_memory_and_no_crash() {
    let registry = Alone::start(&[WRITE]).await;
    registry.register("first", r#""string""#).await;
    let before = registry.peak_bytes();
    for (what, schema, code) in hostile() {
        for _ in 0..3 {
            let (status, body) = registry.register("hostile", &schema).await;
            match code {
                None => assert_eq!(status, 200, "{what}: {body:.300}"),
                Some(code) => assert_eq!(body["error_code"], code, "{what}: {status}"),
            }
        }
        let url = format!("{}/config/hostile", registry.url);
        let request = registry
            .http
            .put(url)
            .json(&json!({"compatibility": "NONE"}));
        assert!(request.send().await.unwrap().status().is_success());
    }
    let more = registry.peak_bytes().saturating_sub(before);
    assert!(more <= MOST_BYTES, "{} MB", more >> 20);
    let (status, _) = registry.register("first", r#""string""#).await;
    assert_eq!(status, 200);
}

/// Versions of nearly a megabyte each, of which nothing is kept but what the caches may hold.
#[tokio::test]
async fn any_number_of_large_versions_costs_little_memory() {
    const VERSIONS: usize = 60;
    let registry = Alone::start(&[WRITE]).await;
    let (_, first) = registry.register("first", r#""string""#).await;
    assert_eq!(first["id"], 1, "{first}");
    let before = registry.peak_bytes();
    let text = "x".repeat(900_000);
    for version in 1..=VERSIONS {
        let schema = format!(r#"{{"type":"string","version":{version},"note":"{text}"}}"#);
        let (status, registered) = registry.register("large", &schema).await;
        assert_eq!(status, 200, "{registered:.300}");
        for path in [
            format!("schemas/ids/{}", registered["id"]),
            format!("subjects/large/versions/{version}"),
        ] {
            let request = registry.http.get(format!("{}/{path}", registry.url));
            let found: Value = request.send().await.unwrap().json().await.unwrap();
            assert!(found["schema"].is_string(), "{path}: {found:.300}");
        }
    }
    let more = registry.peak_bytes().saturating_sub(before);
    assert!(more <= MOST_BYTES, "{} MB", more >> 20);
}

/// Ten schemas, each registered at once under three subjects through both.
#[tokio::test]
async fn two_processes_on_one_database_give_no_id_and_no_version_twice() {
    let postgres = dev_stack::shared().await.fresh_database().await.unwrap();
    let processes = [
        Alone::start_on(&postgres, &[WRITE]).await,
        Alone::start_on(&postgres, &[WRITE]).await,
    ];
    let mut registrations = Vec::new();
    for number in 0..10 {
        for subject in ["a", "b", "c"] {
            for process in &processes {
                registrations.push(async move {
                    let schema = format!(r#"{{"type":"string","number":{number}}}"#);
                    let (_, answer) = process.register(subject, &schema).await;
                    let [id, version] = ["id", "version"].map(|key| answer[key].as_i64());
                    assert!(id.is_some() && version.is_some(), "{answer}");
                    (number, subject, id, version)
                });
            }
        }
    }
    let answers = join_all(registrations).await;
    let schemas_and_ids: BTreeSet<_> = answers.iter().map(|one| (one.0, one.2)).collect();
    let ids: BTreeSet<_> = answers.iter().map(|one| one.2).collect();
    assert_eq!((schemas_and_ids.len(), ids.len()), (10, 10), "{answers:?}");
    let all: BTreeSet<_> = answers.iter().collect();
    let versions: BTreeSet<_> = answers.iter().map(|one| (one.1, one.3)).collect();
    assert_eq!((all.len(), versions.len()), (30, 30), "{answers:?}");
}

/// What it is, the schema, and the code by which it is refused, if it is.
fn hostile() -> Vec<(&'static str, String, Option<u32>)> {
    let many = |count: usize, one: fn(usize) -> String| {
        let mut list = String::new();
        for n in 0..count {
            let _ = write!(list, "{}{}", if n == 0 { "" } else { "," }, one(n));
        }
        list
    };
    let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let invalid = Some(42201);
    let megabyte = 1_000_000;
    vec![
        ("no JSON", "{".repeat(megabyte / 2), invalid),
        (
            "10,000 deep",
            format!(
                "{}\"int\"{}",
                r#"{"type":"array","items":"#.repeat(10_000),
                "}".repeat(10_000)
            ),
            invalid,
        ),
        (
            "recursive without end",
            record(r#"{"name":"f","type":"R"}"#),
            invalid,
        ),
        (
            "a megabyte of text",
            format!(r#"{{"type":"string","doc":"{}"}}"#, "x".repeat(megabyte)),
            None,
        ),
        (
            "a megabyte of small values",
            format!(
                r#"{{"type":"string","x":[{}]}}"#,
                many(megabyte / 4, |_| "[]".into())
            ),
            None,
        ),
        (
            "a megabyte of small objects",
            format!(
                r#"{{"type":"string","x":[{}]}}"#,
                many(megabyte / 12, |_| r#"{"a":1}"#.into())
            ),
            invalid,
        ),
        (
            "more than a megabyte",
            format!(
                r#"{{"type":"string","doc":"{}"}}"#,
                "x".repeat(2 * megabyte)
            ),
            Some(413),
        ),
        (
            "100,000 symbols",
            format!(
                r#"{{"type":"enum","name":"E","symbols":[{}]}}"#,
                many(100_000, |n| format!("\"{}\"", four_letters(n)))
            ),
            None,
        ),
        (
            "70,000 symbols, the last twice",
            format!(
                r#"{{"type":"enum","name":"E","symbols":[{},"S69999"]}}"#,
                many(70_000, |n| format!("\"S{n}\""))
            ),
            invalid,
        ),
        (
            "15,000 fields",
            record(&many(15_000, |n| {
                format!(r#"{{"name":"f{n}","type":"int"}}"#)
            })),
            None,
        ),
        (
            "a field twice",
            record(&many(20_000, |n| {
                format!(r#"{{"name":"f{}","type":"int"}}"#, n % 19_999)
            })),
            invalid,
        ),
        (
            "an unknown type",
            record(r#"{"name":"f","type":"Later"}"#),
            invalid,
        ),
        (
            "a bad default",
            record(r#"{"name":"f","type":"int","default":"x"}"#),
            invalid,
        ),
        (
            "a name of half a megabyte",
            record(&format!(
                r#"{{"name":"{}","type":"int"}}"#,
                "n".repeat(megabyte / 2)
            )),
            None,
        ),
    ]
}

/// Short enough that 100,000 of them fit into a request.
fn four_letters(mut number: usize) -> String {
    let mut name = String::new();
    for _ in 0..4 {
        name.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    name
}
