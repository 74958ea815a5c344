//! What can be configured for a subject or for all: the `config` of Confluent's registry.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::level::Level;

/// Settings as they are stored and returned; what is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_level: Option<Level>,
    /// Kept for clients that ask; schemas are always stored in one form for all that is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
}

impl Settings {
    pub const DEFAULT_LEVEL: Level = Level::Backward;

    /// What a client wants to set. Settings that would have no effect yet are refused.
    pub fn from_request(request: &Map<String, Value>) -> Result<Self, Error> {
        const LATER: [&str; 6] = [
            "alias",
            "compatibilityGroup",
            "defaultMetadata",
            "defaultRuleSet",
            "overrideMetadata",
            "overrideRuleSet",
        ];
        if let Some(later) = LATER
            .into_iter()
            .find(|name| request.get(*name).is_some_and(|value| !value.is_null()))
        {
            return Err(Error::UnsupportedSetting(later));
        }
        let compatibility_level = match request
            .get("compatibility")
            .or_else(|| request.get("compatibilityLevel"))
        {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.parse().map_err(|_| Error::InvalidLevel)?),
            Some(_) => return Err(Error::InvalidLevel),
        };
        let normalize = match request.get("normalize") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(normalize)) => Some(*normalize),
            Some(_) => return Err(Error::UnsupportedSetting("normalize")),
        };
        if compatibility_level.is_none() && normalize.is_none() {
            return Err(Error::InvalidLevel);
        }
        Ok(Self {
            compatibility_level,
            normalize,
        })
    }

    /// These settings, completed with those of the level above.
    pub fn or(self, above: &Self) -> Self {
        Self {
            compatibility_level: self.compatibility_level.or(above.compatibility_level),
            normalize: self.normalize.or(above.normalize),
        }
    }

    /// These settings, completed with what holds where nothing is set.
    pub fn or_default(self) -> Self {
        self.or(&Self {
            compatibility_level: Some(Self::DEFAULT_LEVEL),
            normalize: None,
        })
    }

    pub fn level(&self) -> Level {
        self.compatibility_level.unwrap_or(Self::DEFAULT_LEVEL)
    }
}
