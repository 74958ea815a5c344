//! Binaries of different age on one registry: each reads what the others write.

use std::time::Duration;

use event_log::{
    avro::{CodecError, EventCodec},
    migration::{Migration, with_attribute},
    registry::{RegistryClient, RegistryError},
    schemas::ContextSchemas,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::SecretUrl;
use tasks::{TaskEvent, TaskStatus};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const CREATED: &str = "annals.tasks.TaskCreated";

/// What the first release knew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum FirstEvent {
    TaskCreated {
        title: String,
        description: String,
        status: FirstStatus,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FirstStatus {
    Open,
    Closed,
}

fn first_release() -> ContextSchemas {
    let text = include_str!("../../../../schemas/tasks/TaskCreated.v1.avsc");
    ContextSchemas::load("tasks", [("TaskCreated.v1.avsc", text)]).unwrap()
}

/// A registry of its own; what it has outlives a restart.
struct Registry {
    database: String,
    address: String,
    client: RegistryClient,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Registry {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stack = dev_stack::shared().await;
        let database = stack.fresh_database().await.unwrap();
        Self::serve(database, "127.0.0.1:0".into()).await
    }

    async fn serve(database: String, address: String) -> Self {
        let config = schema_registry::Config {
            address,
            postgres: SecretUrl::new(&database),
            anonymous: Some(schema_registry::Role::Write),
            ..Default::default()
        };
        // While it was away, somebody's connection may have been given its port for a moment.
        let bound = timeout(PATIENCE, async {
            loop {
                match schema_registry::Service::bind(config.clone()).await {
                    Ok(service) => return service,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let service = bound.await.expect("the port is free again");
        let address = service.address().to_string();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move {
                let _ = service.serve(stop).await;
            }
        });
        let client = RegistryClient::new(&format!("http://{address}")).unwrap();
        let registry = Self {
            database,
            address,
            client,
            stop,
            served,
        };
        registry.until_ready().await;
        registry
    }

    /// It makes its tables first.
    async fn until_ready(&self) {
        while let Err(error) = self.client.schema_of_id(1).await {
            if !error.is_temporary() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> (String, String) {
        self.stop.cancel();
        self.served.await.unwrap();
        (self.database, self.address)
    }

    async fn register(&self, schemas: &ContextSchemas) {
        for file in schemas.files() {
            let subject = schemas.full_name(&file.event);
            patiently(async || self.client.register_file(&subject, file).await).await;
        }
    }

    async fn codec<E: kernel::Event>(&self, schemas: &ContextSchemas) -> EventCodec<E> {
        patiently(
            async || match EventCodec::connect(&[schemas], &self.client).await {
                Err(CodecError::Registry(error)) => Err(error),
                connected => Ok(connected.unwrap()),
            },
        )
        .await
    }

    async fn mend(&self, version: u32, migration: &Migration) {
        let url = format!(
            "http://{}/subjects/{CREATED}/versions/{version}/rules",
            self.address
        );
        let body = json!({ "migrationRules": migration.to_rules(version), "comment": "mended" });
        let answer = reqwest::Client::new().post(url).json(&body).send().await;
        let answer = answer.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
    }
}

/// What the registry answers when it has a connection to its database in time.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, RegistryError>) -> T {
    let answered = timeout(PATIENCE, async {
        loop {
            match ask().await {
                Err(error) if error.is_temporary() => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    });
    answered.await.expect("it answers").unwrap()
}

fn created(title: &str, jira_id: Option<&str>, status: TaskStatus) -> TaskEvent {
    TaskEvent::TaskCreated {
        title: title.into(),
        jira_id: jira_id.map(Into::into),
        typed_title: None,
        description: String::new(),
        status,
    }
}

fn first(title: &str, status: FirstStatus) -> FirstEvent {
    FirstEvent::TaskCreated {
        title: title.into(),
        description: String::new(),
        status,
    }
}

fn value<E: kernel::Event>(codec: &EventCodec<E>, event: &E) -> Vec<u8> {
    let mut value = Vec::new();
    codec.encode(event, &mut value).unwrap();
    value
}

#[tokio::test]
async fn an_old_binary_reads_new_events_by_the_rules_of_the_registry() {
    let registry = Registry::start().await;
    let old_schemas = first_release();
    registry.register(&old_schemas).await;
    let old = registry.codec::<FirstEvent>(&old_schemas).await;

    // The next release comes.
    let context = tasks::context();
    registry.register(context.schemas()).await;
    registry.register(context.schemas()).await;
    let new = registry.codec::<TaskEvent>(context.schemas()).await;

    let done = created("Sort", Some("AVRO-12"), TaskStatus::MilletInABowl);
    let written = value(&new, &done);
    assert!(
        old.decode(CREATED, &written).is_err(),
        "nobody has asked yet"
    );
    let read = old.read_or_learn(CREATED, &written).await.unwrap();
    assert_eq!(read, Some(first("AVRO-12: Sort", FirstStatus::Closed)));
    // From now on without asking.
    assert_eq!(old.decode(CREATED, &written), Ok(read));

    let typed = value(&old, &first("AVRO-12: Sort", FirstStatus::Open));
    let open = created("Sort", Some("AVRO-12"), TaskStatus::BirdInACage);
    assert_eq!(new.decode(CREATED, &typed), Ok(Some(open)));
}

#[tokio::test]
async fn a_registry_that_is_away_makes_no_event_unreadable() {
    let registry = Registry::start().await;
    let context = tasks::context();
    registry.register(context.schemas()).await;
    let old_schemas = first_release();
    let old = registry.codec::<FirstEvent>(&old_schemas).await;
    let new = registry.codec::<TaskEvent>(context.schemas()).await;
    let written = value(&new, &created("Sort", None, TaskStatus::BirdInACage));

    let (database, address) = registry.stop().await;
    let error = old.read_or_learn(CREATED, &written).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");

    let _registry = Registry::serve(database, address).await;
    let read = old.read_or_learn(CREATED, &written).await.unwrap();
    assert_eq!(read, Some(first("Sort", FirstStatus::Open)));
    let mut unheard_of = written.clone();
    unheard_of[1..5].copy_from_slice(&999_999_u32.to_be_bytes());
    let error = old.read_or_learn(CREATED, &unheard_of).await.unwrap_err();
    assert!(!error.is_temporary(), "{error}");
}

#[tokio::test]
async fn a_mended_rule_is_used_and_makes_another_fingerprint() {
    let registry = Registry::start().await;
    let context = tasks::context();
    registry.register(context.schemas()).await;
    let before = registry.codec::<TaskEvent>(context.schemas()).await;
    let offline = EventCodec::<TaskEvent>::offline(&[context.schemas()]).unwrap();
    assert_eq!(before.fingerprint(), offline.fingerprint());

    let versions = patiently(async || registry.client.versions(CREATED).await).await;
    let registered = versions[1].migration.clone().unwrap();
    let file = context.schemas().versions("TaskCreated")[1]
        .migration
        .clone()
        .unwrap();
    assert_eq!(
        (registered.revision(), registered.fingerprint()),
        (1, file.fingerprint())
    );
    // Separators without a blank behind them, too.
    let mended = Migration::parse(&file.to_text().replace(" +(?<title>", " *(?<title>")).unwrap();
    assert_ne!(mended.fingerprint(), file.fingerprint());
    registry.mend(2, &mended).await;

    let versions = patiently(async || registry.client.versions(CREATED).await).await;
    let registered = versions[1].migration.clone().unwrap();
    assert_eq!(
        (registered.revision(), registered.fingerprint()),
        (2, mended.fingerprint())
    );
    let after = registry.codec::<TaskEvent>(context.schemas()).await;
    assert_ne!(after.fingerprint(), before.fingerprint());

    let old_schemas = first_release();
    let old = registry.codec::<FirstEvent>(&old_schemas).await;
    let typed = value(&old, &first("AVRO-12:Sort", FirstStatus::Open));
    let whole = created("AVRO-12:Sort", None, TaskStatus::BirdInACage);
    assert_eq!(before.decode(CREATED, &typed), Ok(Some(whole)));
    let read = after.decode(CREATED, &typed).unwrap();
    assert!(
        matches!(&read, Some(TaskEvent::TaskCreated { title, jira_id: Some(_), .. }) if title == "Sort"),
        "{read:?}"
    );
}

#[tokio::test]
async fn where_rules_are_dropped_they_travel_in_the_schema() {
    let registry = Registry::start().await;
    let context = tasks::context();
    let client = &registry.client;
    let [v1, v2, ..] = context.schemas().versions("TaskCreated") else {
        panic!("two versions");
    };
    patiently(async || client.register(CREATED, &v1.text).await).await;
    // As on a registry that knows no rules.
    let migration = v2.migration.as_deref().unwrap();
    let inside = with_attribute(&v2.text, migration);
    let id = patiently(async || client.register(CREATED, &inside).await).await;
    let found = patiently(async || client.find(CREATED, v2).await).await;
    assert_eq!((found.id, found.version), (id, 2));
    let version = patiently(async || client.version(CREATED, 2, 2).await).await;
    assert_eq!(
        version.migration.unwrap().fingerprint(),
        migration.fingerprint()
    );
    assert!(!version.schema.contains("annals.migration"));
}
