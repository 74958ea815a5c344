//! What the verbs ask of a registry, with its API of Confluent's kind.
//!
//! `event_log::registry` has what a service needs, which is ids and rules; this is what an
//! operator needs.

use event_log::{
    registry::{RegisteredVersion, RegistryClient, RegistryError, or_nothing},
    schemas::SchemaFile,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(crate) struct Registry {
    client: RegistryClient,
}

/// A version of a subject, with the newest revision of its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registered {
    pub(super) subject: String,
    pub(super) version: u32,
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) content: Content,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

/// A schema with what comes with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    pub(super) schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) references: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule_set: Option<Value>,
}

/// One revision of the rules that lead to a version and back from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Revision {
    pub(super) revision: u32,
    pub(super) migration_rules: Value,
    pub(super) fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<String>,
    pub(super) revised_at: String,
}

impl Registry {
    /// # Errors
    /// `Address` when it is none.
    pub(crate) fn new(base: &str) -> Result<Self, RegistryError> {
        let client = RegistryClient::new(base)?;
        Ok(Self { client })
    }

    /// Where it is, without a login.
    pub(super) fn place(&self) -> String {
        self.client.place()
    }

    /// The subjects whose names begin like this.
    pub(super) async fn subjects(&self, prefix: &str) -> Result<Vec<String>, RegistryError> {
        let request = self.client.request(Method::GET, &["subjects"]);
        let request = request.query(&[("subjectPrefix", prefix)]);
        let subjects: Vec<String> = self.client.ask("the subjects", request).await?;
        // Not every registry knows how to filter.
        Ok(subjects
            .into_iter()
            .filter(|it| it.starts_with(prefix))
            .collect())
    }

    /// The subject's versions, oldest first; none when there is no such subject.
    pub(super) async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        self.numbers(subject, false).await
    }

    /// All numbers that were ever given and not removed for good.
    pub(super) async fn versions_with_deleted(
        &self,
        subject: &str,
    ) -> Result<Vec<u32>, RegistryError> {
        self.numbers(subject, true).await
    }

    async fn numbers(&self, subject: &str, deleted: bool) -> Result<Vec<u32>, RegistryError> {
        let numbers = self.client.version_numbers(subject, deleted).await;
        Ok(or_nothing(numbers)?.unwrap_or_default())
    }

    /// All versions of a subject with the newest revision of their rules, oldest first; none when
    /// there is no such subject.
    pub(super) async fn registered(
        &self,
        subject: &str,
    ) -> Result<Vec<RegisteredVersion>, RegistryError> {
        Ok(or_nothing(self.client.versions(subject).await)?.unwrap_or_default())
    }

    /// Registers a file with its rules; answers its id. The same again answers the same. A version
    /// that a rule carries is let in whatever the subject's level is.
    pub(super) async fn put(&self, subject: &str, file: &SchemaFile) -> Result<u32, RegistryError> {
        self.client.register_file(subject, file).await
    }

    /// All versions of a subject as the registry has them, oldest first.
    pub(super) async fn all(&self, subject: &str) -> Result<Vec<Registered>, RegistryError> {
        let mut all = Vec::new();
        for version in self.versions(subject).await? {
            let number = version.to_string();
            let request = self
                .client
                .request(Method::GET, &["subjects", subject, "versions", &number]);
            // It may have been deleted since.
            all.extend(or_nothing(self.client.ask(subject, request).await)?);
        }
        Ok(all)
    }

    /// What an id stands for, with the rules that it was registered with.
    pub(super) async fn by_id(&self, id: u32) -> Result<Content, RegistryError> {
        let number = id.to_string();
        let request = self
            .client
            .request(Method::GET, &["schemas", "ids", &number]);
        self.client.ask(&format!("schema {id}"), request).await
    }

    /// All revisions of a version's rules; nothing where the registry keeps none.
    pub(super) async fn revisions(
        &self,
        subject: &str,
        version: u32,
    ) -> Result<Option<Vec<Revision>>, RegistryError> {
        let number = version.to_string();
        let request = self.client.request(
            Method::GET,
            &["subjects", subject, "versions", &number, "rules"],
        );
        or_nothing(self.client.ask(subject, request).await)
    }

    /// Registers a schema as this version, with this id. The subject must be in mode `IMPORT`.
    pub(super) async fn import(&self, registered: &Registered) -> Result<(), RegistryError> {
        let subject = &registered.subject;
        let request = self
            .client
            .request(Method::POST, &["subjects", subject, "versions"]);
        let mut body = serde_json::to_value(&registered.content)
            .unwrap_or_else(|error| unreachable!("a schema is plain JSON: {error}"));
        body["id"] = registered.id.into();
        body["version"] = registered.version.into();
        let imported = self.client.ask::<Value>(subject, request.json(&body));
        imported.await.map(drop)
    }

    /// Gives the version's rules a new revision, which must be the next.
    pub(super) async fn mend(
        &self,
        subject: &str,
        version: u32,
        rules: &Value,
        revision: u32,
        comment: Option<&str>,
    ) -> Result<Revision, RegistryError> {
        let number = version.to_string();
        let request = self.client.request(
            Method::POST,
            &["subjects", subject, "versions", &number, "rules"],
        );
        let body = json!({ "migrationRules": rules, "revision": revision, "comment": comment });
        self.client.ask(subject, request.json(&body)).await
    }

    /// The subject's own compatibility level; nothing where it follows the others.
    pub(super) async fn own_level(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        self.client.own_level(subject).await
    }

    /// Sets the subject's own compatibility level, or has it follow the others again.
    pub(super) async fn set_level(
        &self,
        subject: &str,
        level: Option<&str>,
    ) -> Result<(), RegistryError> {
        self.client.set_level(subject, level).await
    }

    /// The subject's own mode; nothing where it follows the others.
    pub(super) async fn own_mode(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let request = self.client.request(Method::GET, &["mode", subject]);
        let mode: Option<Value> = or_nothing(self.client.ask(subject, request).await)?;
        Ok(mode.and_then(|it| Some(it["mode"].as_str()?.to_owned())))
    }

    /// Sets the subject's own mode, or has it follow the others again.
    pub(super) async fn set_mode(
        &self,
        subject: &str,
        mode: Option<&str>,
    ) -> Result<(), RegistryError> {
        let path = ["mode", subject];
        let request = match mode {
            Some(mode) => self
                .client
                .request(Method::PUT, &path)
                // Ids that are there already are compared with those that come.
                .query(&[("force", "true")])
                .json(&json!({ "mode": mode })),
            None => self.client.request(Method::DELETE, &path),
        };
        self.client.ask::<Value>(subject, request).await.map(drop)
    }
}
