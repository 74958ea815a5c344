//! What the rules take for granted: values that are well-formed by their type.

use kernel::Malformed;
use serde::{Deserialize, Deserializer, Serialize, de};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "runtime", derive(annals::http::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    Manager,
    Accountant,
    Worker,
}

/// A mail address, in lower case: one `@` between a name and a domain, at most 254 bytes.
///
/// Whether mail arrives there, only a mail can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email(String);

/// What others call somebody: 1–200 characters, no control characters, not only blanks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PersonName(String);

impl Role {
    /// As it is recorded, and as tokens name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Accountant => "accountant",
            Self::Worker => "worker",
        }
    }
}

impl Email {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed("is not a mail address");
        let (name, domain) = text.split_once('@').ok_or_else(|| malformed.clone())?;
        let visible = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        let well_formed = visible
            && text.len() <= 254
            && !name.is_empty()
            && domain.contains('.')
            && domain.split('.').all(|label| !label.is_empty())
            && !domain.contains('@');
        match well_formed {
            true => Ok(Self(text.to_lowercase())),
            false => Err(malformed),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PersonName {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.trim().is_empty() {
            return Err(Malformed("is empty"));
        }
        if text.chars().count() > 200 {
            return Err(Malformed("is longer than 200 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(Malformed("contains a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PersonName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_in_any_case() {
        assert_eq!(
            Email::parse("Ada@Example.ORG"),
            Email::parse("ada@example.org")
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "", "ada", "@b.c", "a@b", "a@b.", "a b@c.d", "a@b@c.d", "a@b.c\n",
        ] {
            assert!(Email::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
