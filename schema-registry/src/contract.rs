//! Data contracts: the metadata and the rules that come with a schema, in the form of Confluent's
//! registry. They are checked and kept here; who reads and writes messages executes them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::Error;

/// The property by which a client tells, and is told, which version it means.
pub(crate) const VERSION_PROPERTY: &str = "confluent:version";

/// What is known about a schema beside its form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Tags of the parts of a schema, by their paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, BTreeSet<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// Names of properties that are not for everybody's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSet {
    /// From one version to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_rules: Option<Vec<Rule>>,
    /// Of a single message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_rules: Option<Vec<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_rules: Option<Vec<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RuleKind>,
    pub mode: RuleMode,
    /// Who executes it: `ANNALS`, `JSONATA`, `CEL`, …
    #[serde(rename = "type")]
    pub type_: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RuleKind {
    Transform,
    Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RuleMode {
    #[serde(rename = "UPGRADE")]
    Upgrade,
    #[serde(rename = "DOWNGRADE")]
    Downgrade,
    #[serde(rename = "UPDOWN")]
    UpDown,
    #[serde(rename = "WRITE")]
    Write,
    #[serde(rename = "READ")]
    Read,
    #[serde(rename = "WRITEREAD")]
    WriteRead,
}

impl Metadata {
    pub(crate) fn from_request(value: Value) -> Result<Self, Error> {
        if has_nul(&value) || !value.is_object() {
            return Err(Error::InvalidMetadata(
                "it is no object, or has U+0000 in it".to_owned(),
            ));
        }
        serde_json::from_value(value).map_err(|error| Error::InvalidMetadata(error.to_string()))
    }

    /// These, where `above` has nothing to say about the same tag or property.
    pub(crate) fn merge(below: Option<Self>, above: Option<Self>) -> Option<Self> {
        match (below, above) {
            (Some(below), Some(above)) => Some(Self {
                tags: extended(below.tags, above.tags),
                properties: extended(below.properties, above.properties),
                sensitive: extended(below.sensitive, above.sensitive),
            }),
            (below, above) => above.or(below),
        }
    }

    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let properties = self.properties.as_ref()?;
        properties.get(name).map(String::as_str)
    }

    pub(crate) fn set_version(&mut self, version: i32) {
        let properties = self.properties.get_or_insert_default();
        properties.insert(VERSION_PROPERTY.to_owned(), version.to_string());
    }

    /// Without the version; nothing if nothing else was there.
    pub(crate) fn without_version(mut self) -> Option<Self> {
        let properties = self.properties.as_mut()?;
        properties.remove(VERSION_PROPERTY);
        if properties.is_empty() {
            self.properties = None;
        }
        (self != Self::default()).then_some(self)
    }
}

impl RuleSet {
    pub(crate) fn from_request(value: Value) -> Result<Self, Error> {
        if has_nul(&value) || !value.is_object() {
            return Err(Error::InvalidRuleSet(
                "it is no object, or has U+0000 in it".to_owned(),
            ));
        }
        let rules: Self = serde_json::from_value(value)
            .map_err(|error| Error::InvalidRuleSet(error.to_string()))?;
        rules.check().map_err(Error::InvalidRuleSet)?;
        Ok(rules)
    }

    /// These, where `above` has no rule of the same name.
    pub(crate) fn merge(below: Option<Self>, above: Option<Self>) -> Option<Self> {
        match (below, above) {
            (Some(below), Some(above)) => Some(Self {
                migration_rules: merge_rules(below.migration_rules, above.migration_rules),
                domain_rules: merge_rules(below.domain_rules, above.domain_rules),
                encoding_rules: merge_rules(below.encoding_rules, above.encoding_rules),
                enable_at: above.enable_at.or(below.enable_at),
            }),
            (below, above) => above.or(below),
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        let kinds = [
            (&self.migration_rules, true, "UPGRADE, DOWNGRADE or UPDOWN"),
            (&self.domain_rules, false, "WRITE, READ or WRITEREAD"),
            (&self.encoding_rules, false, "WRITE, READ or WRITEREAD"),
        ];
        for (rules, migrate, modes) in kinds {
            for rule in rules.iter().flatten() {
                rule.check()?;
                if !names.insert(rule.name.as_str()) {
                    return Err(format!("Found rule with duplicate name '{}'", rule.name));
                }
                if rule.mode.migrates() != migrate {
                    return Err(format!("rule '{}' can only be {modes}", rule.name));
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        const LONGEST: usize = 256;
        let name = &self.name;
        let is_name = name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name
                .chars()
                .all(|next| next.is_alphanumeric() || "_-".contains(next));
        if !is_name || name.chars().count() > LONGEST {
            let name: String = name.chars().take(100).collect();
            return Err(format!(
                "'{name}' is no name for a rule: up to {LONGEST} letters, digits, '_' and '-', a letter or '_' first"
            ));
        }
        if self.type_.is_empty() {
            return Err(format!("rule '{name}' has no type"));
        }
        let both_ways = matches!(self.mode, RuleMode::UpDown | RuleMode::WriteRead);
        let several = [&self.on_success, &self.on_failure]
            .into_iter()
            .flatten()
            .any(|action| action.contains(','));
        if several && !both_ways {
            return Err(format!(
                "rule '{name}' has several actions, which only UPDOWN and WRITEREAD can have"
            ));
        }
        Ok(())
    }
}

impl RuleMode {
    fn migrates(self) -> bool {
        matches!(self, Self::Upgrade | Self::Downgrade | Self::UpDown)
    }
}

fn extended<C>(below: Option<C>, above: Option<C>) -> Option<C>
where
    C: IntoIterator + Extend<C::Item>,
{
    match (below, above) {
        (Some(mut below), Some(above)) => {
            below.extend(above);
            Some(below)
        }
        (below, above) => above.or(below),
    }
}

/// A rule takes the place of the one of its name; others come behind.
fn merge_rules(below: Option<Vec<Rule>>, above: Option<Vec<Rule>>) -> Option<Vec<Rule>> {
    match (below, above) {
        (Some(mut rules), Some(above)) => {
            for rule in above {
                match rules.iter_mut().find(|known| known.name == rule.name) {
                    Some(known) => *known = rule,
                    None => rules.push(rule),
                }
            }
            Some(rules)
        }
        (below, above) => above.or(below),
    }
}

/// Postgres cannot hold this character in `jsonb`.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
