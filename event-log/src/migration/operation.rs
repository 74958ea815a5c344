//! The operations that a rule of type `ANNALS` is made of, and their inverses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{decimal::Rounding, path::Path, split::Parts};

/// One small change of a record, done in the order in which they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// A value moves; records on the way are made.
    Rename { from: Path, to: Path },
    /// A value is there twice.
    Copy { from: Path, to: Path },
    /// What is missing or null gets a value.
    Default { field: Path, value: Json },
    /// Whatever was there, this is there now.
    Constant { field: Path, value: Json },
    /// A field goes.
    Drop { field: Path },
    /// Symbols of an enum, or texts, become others. Those that are not named stay.
    Map {
        field: Path,
        symbols: BTreeMap<String, String>,
        /// What texts become that are not named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        otherwise: Option<String>,
    },
    /// A number gets the type that the other schema has for it.
    Convert {
        field: Path,
        /// Multiplied by this power of ten: -2 makes euros of cents.
        #[serde(default, skip_serializing_if = "is_zero")]
        shift: i32,
        /// What becomes of digits without room; without it, such an event is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rounding: Option<Rounding>,
    },
    /// A text is taken apart.
    Split(Parts),
    /// A text is put together: `split` the other way round.
    Join(Parts),
}

fn is_zero(shift: &i32) -> bool {
    *shift == 0
}

impl Operation {
    /// The operations that lead back, last one first.
    ///
    /// What an operation adds needs none: a field that the older schema does not have goes by
    /// itself, and the check says that it is lost.
    pub(crate) fn invert(operations: &[Self]) -> Result<Vec<Self>, NotInvertible> {
        let mut inverse = Vec::new();
        for operation in operations.iter().rev() {
            inverse.extend(operation.inverse()?);
        }
        Ok(inverse)
    }

    fn inverse(&self) -> Result<Option<Self>, NotInvertible> {
        Ok(match self.clone() {
            Self::Rename { from, to } => Some(Self::Rename { from: to, to: from }),
            Self::Copy { .. }
            | Self::Default { .. }
            | Self::Constant { .. }
            | Self::Drop { .. } => None,
            Self::Map {
                field,
                symbols,
                otherwise,
            } => {
                let mut back = BTreeMap::new();
                for (old, new) in symbols {
                    if let Some(other) = back.insert(new.clone(), old.clone()) {
                        let reason = format!("{other} and {old} both become {new}");
                        return Err(NotInvertible { field, reason });
                    }
                }
                if let Some(otherwise) = otherwise {
                    let reason = format!("what becomes {otherwise} was anything");
                    return Err(NotInvertible { field, reason });
                }
                Some(Self::Map {
                    field,
                    symbols: back,
                    otherwise: None,
                })
            }
            Self::Convert { field, shift, .. } => Some(Self::Convert {
                field,
                shift: -shift,
                rounding: None,
            }),
            Self::Split(parts) => Some(Self::Join(parts)),
            Self::Join(parts) => Some(Self::Split(parts)),
        })
    }

    /// Where a value is after this operation that was at `path` before.
    pub(crate) fn follow(&self, path: &Path) -> Path {
        match self {
            Self::Rename { from, to } => path.moved(from, to),
            _ => path.clone(),
        }
    }
}

/// Why nothing leads back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` cannot be had back: {reason}")]
pub struct NotInvertible {
    pub field: Path,
    pub reason: String,
}
