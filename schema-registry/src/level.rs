//! Compatibility levels: which earlier versions a new schema is held against, and in which
//! direction. Differences are told in the words of Confluent's registry, which tools parse.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::avro::{self, Incompatibility, IncompatibilityKind, Steps, TooComplex};
use crate::json_schema;
use crate::references::Referenced;
use crate::schema::{Schema, SchemaType};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    None,
    /// Readers of the new schema can read what was written with the newest one before it.
    Backward,
    /// Readers of the newest schema before it can read what is written with the new one.
    Forward,
    Full,
    BackwardTransitive,
    ForwardTransitive,
    FullTransitive,
}

/// One version that a subject has already.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub version: i32,
    pub schema_type: String,
    pub schema: String,
    /// What it refers to, each behind those that it needs itself.
    pub referenced: Vec<Referenced>,
}

impl Earlier {
    pub fn bytes(&self) -> usize {
        let referenced: usize = self.referenced.iter().map(|it| it.text.len()).sum();
        self.schema.len() + referenced
    }
}

impl Level {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::Forward,
        Self::Full,
        Self::BackwardTransitive,
        Self::ForwardTransitive,
        Self::FullTransitive,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::Forward => "FORWARD",
            Self::Full => "FULL",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether the new schema is held against all versions and not only the newest.
    pub(crate) fn is_transitive(self) -> bool {
        matches!(
            self,
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive
        )
    }

    /// Why `candidate` may not follow `earlier` (newest first): nothing if it may. As in
    /// Confluent's registry, the newest version that objects is the only one heard. All of them
    /// share the steps.
    pub(crate) fn objections(
        self,
        candidate: &Schema,
        earlier: &[Earlier],
        steps: &mut Steps,
    ) -> Result<Vec<String>, TooComplex> {
        for one in earlier {
            let mut objections = self.differences(candidate, one, steps)?;
            if !objections.is_empty() {
                objections.push(format!("{{oldSchemaVersion: {}}}", one.version));
                objections.push(format!("{{oldSchema: '{}'}}", one.schema));
                objections.push(format!(
                    "{{validateFields: 'false', compatibility: '{self}'}}"
                ));
                return Ok(objections);
            }
        }
        Ok(Vec::new())
    }

    fn differences(
        self,
        candidate: &Schema,
        earlier: &Earlier,
        steps: &mut Steps,
    ) -> Result<Vec<String>, TooComplex> {
        let (backward, forward) = match self {
            Self::None => return Ok(Vec::new()),
            Self::Backward | Self::BackwardTransitive => (true, false),
            Self::Forward | Self::ForwardTransitive => (false, true),
            Self::Full | Self::FullTransitive => (true, true),
        };
        let parsed = SchemaType::parse(Some(&earlier.schema_type))
            .and_then(|type_| Schema::parse_known(type_, &earlier.referenced, &earlier.schema));
        let mut differences = Vec::new();
        match (candidate, parsed) {
            (Schema::Avro(candidate), Ok(Schema::Avro(earlier))) => {
                if backward {
                    let found = avro::differences(candidate, &earlier, steps)?;
                    differences.extend(found.iter().map(|one| describe(one, "new", "old")));
                }
                if forward {
                    let found = avro::differences(&earlier, candidate, steps)?;
                    differences.extend(found.iter().map(|one| describe(one, "old", "new")));
                }
            }
            (Schema::Json(candidate), Ok(Schema::Json(earlier))) => {
                if backward {
                    differences.extend(json_schema::differences(candidate, &earlier, steps)?);
                }
                if forward {
                    differences.extend(json_schema::differences(&earlier, candidate, steps)?);
                }
            }
            (_, Ok(_)) => {
                differences.push("Incompatible because of different schema type".to_owned());
            }
            (_, Err(_)) => differences.push("the earlier schema is not valid".to_owned()),
        }
        Ok(differences)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a level.
#[derive(Debug)]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    /// In any case, as Confluent's registry takes it.
    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
            .ok_or(UnknownLevel)
    }
}

fn describe(difference: &Incompatibility, reader: &str, writer: &str) -> String {
    let Incompatibility { kind, path, detail } = difference;
    let (error_type, description) = match kind {
        IncompatibilityKind::FixedSizeMismatch => (
            "FIXED_SIZE_MISMATCH",
            format!(
                "The size of FIXED type field at path '{path}' in the {reader} schema does not match with the {writer} schema"
            ),
        ),
        IncompatibilityKind::TypeMismatch => (
            "TYPE_MISMATCH",
            format!(
                "The type (path '{path}') of a field in the {reader} schema does not match with the {writer} schema"
            ),
        ),
        IncompatibilityKind::NameMismatch => (
            "NAME_MISMATCH",
            format!("The name of the schema has changed (path '{path}')"),
        ),
        IncompatibilityKind::MissingEnumSymbols => (
            "MISSING_ENUM_SYMBOLS",
            format!(
                "The {reader} schema is missing enum symbols '{detail}' at path '{path}' in the {writer} schema"
            ),
        ),
        IncompatibilityKind::MissingUnionBranch => (
            "MISSING_UNION_BRANCH",
            format!(
                "The {reader} schema is missing a type inside a union field at path '{path}' in the {writer} schema"
            ),
        ),
        IncompatibilityKind::ReaderFieldMissingDefaultValue => (
            "READER_FIELD_MISSING_DEFAULT_VALUE",
            format!(
                "The field '{detail}' at path '{path}' in the {reader} schema has no default value and is missing in the {writer} schema"
            ),
        ),
    };
    format!("{{errorType:'{error_type}', description:'{description}', additionalInfo:'{detail}'}}")
}
