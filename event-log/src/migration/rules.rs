//! Migrations in the form of Confluent's data contracts, as a registry keeps them.

use serde::{Deserialize, Serialize};

use super::{
    File, Migration, MigrationError, Path, Rule, WrittenDowngrade, fingerprint::canonical,
};
use super::{Operation, report::Direction};

/// One of `ruleSet.migrationRules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationRule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub mode: RuleMode,
    #[serde(rename = "type")]
    pub type_: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleMode {
    #[serde(rename = "UPGRADE")]
    Upgrade,
    #[serde(rename = "DOWNGRADE")]
    Downgrade,
    #[serde(rename = "UPDOWN")]
    UpDown,
}

/// What stands in `expr` of a rule of type `ANNALS`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The type may be said here as well.
    #[serde(default, rename = "type", skip_serializing)]
    _type: Option<String>,
    operations: Vec<Operation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drops: Vec<Path>,
}

const ANNALS: &str = "ANNALS";
const JSONATA: &str = "JSONATA";

impl Migration {
    /// The rules to register with the version that the edge leads to.
    ///
    /// Their names carry that version: a registry hands the rules of one version on to the next
    /// that comes without.
    pub fn to_rules(&self, version: u32) -> Vec<MigrationRule> {
        let directions = [
            (Direction::Upgrade, RuleMode::Upgrade, "upgrade-to"),
            (Direction::Downgrade, RuleMode::Downgrade, "downgrade-from"),
        ];
        let mut rules = Vec::new();
        for (direction, mode, name) in directions {
            let Some(rule) = self.rule(direction) else {
                continue;
            };
            let (type_, expr) = match rule {
                Rule::Jsonata { expression } => (JSONATA, expression.clone()),
                Rule::Annals { operations, drops } => {
                    let body = Body {
                        _type: None,
                        operations: operations.clone(),
                        drops: drops.clone(),
                    };
                    (
                        ANNALS,
                        canonical(&serde_json::to_value(body).unwrap_or_default()),
                    )
                }
            };
            rules.push(MigrationRule {
                name: format!("{name}-v{version}"),
                kind: Some("TRANSFORM".into()),
                mode,
                type_: type_.into(),
                expr: Some(expr),
                disabled: false,
            });
        }
        rules
    }

    /// The edge that a version's rules describe; nothing when none of them is about this version.
    pub fn from_rules(
        rules: &[MigrationRule],
        version: u32,
    ) -> Result<Option<Self>, MigrationError> {
        let mut file = File {
            doc: None,
            upgrade: None,
            downgrade: None,
        };
        let mut names: [Option<&str>; 2] = [None, None];
        for rule in rules
            .iter()
            .filter(|rule| !rule.disabled && rule.is_about(version))
        {
            let parsed = rule.parse()?;
            let ways = match rule.mode {
                RuleMode::Upgrade => &[0][..],
                RuleMode::Downgrade => &[1],
                RuleMode::UpDown => &[0, 1],
            };
            for way in ways {
                if let Some(first) = names[*way].replace(&rule.name) {
                    return Err(MigrationError::Several {
                        first: first.into(),
                        second: rule.name.clone(),
                    });
                }
                match way {
                    0 => file.upgrade = Some(parsed.clone()),
                    _ => file.downgrade = Some(written(parsed.clone())),
                }
            }
        }
        let found = file.upgrade.is_some() || file.downgrade.is_some();
        Ok(found.then(|| Self::of(file, 1)))
    }
}

fn written(rule: Rule) -> WrittenDowngrade {
    match rule {
        Rule::Jsonata { expression } => WrittenDowngrade::Jsonata { expression },
        Rule::Annals { operations, drops } => WrittenDowngrade::Annals {
            operations: Some(operations),
            drops,
        },
    }
}

impl MigrationRule {
    /// Ours say it in their names; of others we take it so.
    fn is_about(&self, version: u32) -> bool {
        let named = ["upgrade-to-v", "downgrade-from-v"]
            .iter()
            .find_map(|prefix| self.name.strip_prefix(prefix)?.parse::<u32>().ok());
        named.is_none_or(|named| named == version)
    }

    fn parse(&self) -> Result<Rule, MigrationError> {
        let expr = self.expr.as_deref().ok_or_else(|| MigrationError::Empty {
            name: self.name.clone(),
        })?;
        match &*self.type_ {
            JSONATA => Ok(Rule::Jsonata {
                expression: expr.to_owned(),
            }),
            ANNALS => {
                let body: Body = serde_json::from_str(expr).map_err(|error| {
                    MigrationError::Json(format!("rule {}: {error}", self.name))
                })?;
                Ok(Rule::Annals {
                    operations: body.operations,
                    drops: body.drops,
                })
            }
            other => Err(MigrationError::Type {
                name: self.name.clone(),
                kind: other.into(),
            }),
        }
    }
}
