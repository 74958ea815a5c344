//! Values that must not be seen in logs.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A secret: printed as `***`, whatever prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// An address that may hold a password: printed as `postgres://ada:***@host/db`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address, password and all.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretUrl {
    /// Hides everything between the first `:` of the authority and its last `@`, and the
    /// query, where a password may stand as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, query) = match self.0.split_once('?') {
            Some((shown, _)) => (shown, "?***"),
            None => (self.0.as_str(), ""),
        };
        let (scheme, rest) = match shown.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => return f.write_str("***"),
        };
        // A password may hold an unescaped '/' or '@': look for the last '@' of it all.
        match rest.rsplit_once('@') {
            Some((login, place)) => match login.split_once(':') {
                Some((user, _)) => write!(f, "{scheme}://{user}:***@{place}{query}"),
                None => write!(f, "{scheme}://{login}@{place}{query}"),
            },
            None => write!(f, "{scheme}://{rest}{query}"),
        }
    }
}

macro_rules! redacted {
    ($type:ident) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // serde's own message would quote the value.
                String::deserialize(deserializer)
                    .map(Self)
                    .map_err(|_| de::Error::custom("expected a string"))
            }
        }
    };
}

redacted!(Secret);
redacted!(SecretUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_printed() {
        for (url, printed) in [
            (
                "postgres://ada:pa/s@s@db:5432/x",
                "postgres://ada:***@db:5432/x",
            ),
            ("postgres://ada@db/x?password=p", "postgres://ada@db/x?***"),
            ("postgres://db/x", "postgres://db/x"),
            ("password", "***"),
        ] {
            assert_eq!(SecretUrl::new(url).to_string(), printed);
            assert_eq!(format!("{:?}", SecretUrl::new(url)), printed);
        }
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted() {
        let error = serde_json::from_str::<Secret>("12345").unwrap_err();
        assert!(!error.to_string().contains("12345"), "{error}");
    }
}
