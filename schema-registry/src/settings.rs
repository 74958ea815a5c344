//! What can be configured for a subject, a context or for all: the `config` of Confluent's registry.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::contract::{Metadata, RuleSet};
use crate::error::Error;
use crate::level::Level;
use crate::subject::Subject;

/// Settings as they are stored and returned; what is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_level: Option<Level>,
    /// The property of the metadata by which versions are grouped: only those of the same value are
    /// held against each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_group: Option<String>,
    /// Kept for clients that ask; schemas are always stored in one form for all that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The subject that is meant where this one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What schemas get that say nothing themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_metadata: Option<Metadata>,
    /// What schemas get whatever they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_rule_set: Option<RuleSet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_rule_set: Option<RuleSet>,
}

/// What a client wants to be different: a value to set, or null for what is to be inherited again.
#[derive(Clone, Debug)]
pub struct SettingsUpdate(Map<String, Value>);

impl SettingsUpdate {
    pub fn from_request(mut request: Map<String, Value>) -> Result<Self, Error> {
        // A request calls the level by another name than the answers do.
        if let Some(level) = request.remove("compatibility") {
            request.insert("compatibilityLevel".to_owned(), level);
        }
        let mut update = Map::new();
        for (name, value) in request {
            let value = if value.is_null() {
                value
            } else {
                checked(&name, value)?
            };
            update.insert(name, value);
        }
        if update.is_empty() {
            return Err(Error::InvalidLevel);
        }
        Ok(Self(update))
    }

    /// The settings with what is to be different.
    pub(crate) fn apply(&self, settings: &Settings) -> Result<Settings, serde_json::Error> {
        let mut object = match serde_json::to_value(settings)? {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        for (name, value) in &self.0 {
            if value.is_null() {
                object.remove(name);
            } else {
                object.insert(name.clone(), value.clone());
            }
        }
        serde_json::from_value(Value::Object(object))
    }

    /// As a client sees it: the level under the name that a request gives it.
    pub(crate) fn into_answer(mut self) -> Map<String, Value> {
        if let Some(level) = self.0.remove("compatibilityLevel") {
            self.0.insert("compatibility".to_owned(), level);
        }
        self.0
    }
}

/// The value in the form in which it is stored.
fn checked(name: &str, value: Value) -> Result<Value, Error> {
    let wrong = |name| Error::UnusableSetting(name);
    match (name, value) {
        ("compatibilityLevel", Value::String(level)) => {
            let level: Level = level.parse().map_err(|_| Error::InvalidLevel)?;
            Ok(level.name().into())
        }
        ("compatibilityLevel", _) => Err(Error::InvalidLevel),
        ("normalize", value @ Value::Bool(_)) => Ok(value),
        ("compatibilityGroup", Value::String(group)) if !group.contains('\0') => Ok(group.into()),
        ("alias", Value::String(alias)) => Ok(Subject::parse(&alias)?.as_str().into()),
        ("defaultMetadata" | "overrideMetadata", value) => {
            let metadata = Metadata::from_request(value)?;
            serde_json::to_value(metadata).map_err(|_| wrong("metadata"))
        }
        ("defaultRuleSet" | "overrideRuleSet", value) => {
            let rules = RuleSet::from_request(value)?;
            serde_json::to_value(rules).map_err(|_| wrong("rule set"))
        }
        ("normalize", _) => Err(wrong("normalize")),
        ("compatibilityGroup", _) => Err(wrong("compatibilityGroup")),
        ("alias", _) => Err(wrong("alias")),
        (other, _) => {
            let other: String = other.chars().take(100).collect();
            Err(Error::UnknownSetting(other))
        }
    }
}

impl Settings {
    pub const DEFAULT_LEVEL: Level = Level::Backward;

    /// These settings, completed with those of the level above.
    pub fn or(self, above: Self) -> Self {
        Self {
            compatibility_level: self.compatibility_level.or(above.compatibility_level),
            compatibility_group: self.compatibility_group.or(above.compatibility_group),
            normalize: self.normalize.or(above.normalize),
            // An alias is of one subject alone.
            alias: self.alias,
            default_metadata: self.default_metadata.or(above.default_metadata),
            override_metadata: self.override_metadata.or(above.override_metadata),
            default_rule_set: self.default_rule_set.or(above.default_rule_set),
            override_rule_set: self.override_rule_set.or(above.override_rule_set),
        }
    }

    /// These settings, completed with what holds where nothing is set.
    pub fn or_default(self) -> Self {
        self.or(Self {
            compatibility_level: Some(Self::DEFAULT_LEVEL),
            ..Self::default()
        })
    }

    pub fn level(&self) -> Level {
        self.compatibility_level.unwrap_or(Self::DEFAULT_LEVEL)
    }
}
