//! Exact decimals.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Malformed;

/// An exact decimal number of up to 28 digits that keeps its scale: `13.14000` stays so.
///
/// Recorded as an Avro string with the logical type `decimal`; equal numbers
/// of different scale are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(rust_decimal::Decimal);

impl Decimal {
    /// The number behind it, to calculate with.
    pub fn value(self) -> rust_decimal::Decimal {
        self.0
    }
}

impl From<rust_decimal::Decimal> for Decimal {
    fn from(value: rust_decimal::Decimal) -> Self {
        Self(value)
    }
}

impl FromStr for Decimal {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        rust_decimal::Decimal::from_str_exact(text)
            .map(Self)
            .map_err(|_| Malformed("is not a decimal number of at most 28 digits"))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_keeps_its_scale() {
        for text in ["13.14000", "0.10", "-0.001", "9999999999999999999999999999"] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), text);
        }
        assert_eq!("1.0".parse::<Decimal>(), "1.000".parse());
    }

    #[test]
    fn what_cannot_be_held_exactly_is_refused() {
        for text in ["", "1,5", "1e5", "NaN", "0.00000000000000000000000000001"] {
            assert!(text.parse::<Decimal>().is_err(), "{text:?} was accepted");
        }
    }
}
