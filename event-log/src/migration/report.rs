//! What a check found.

use std::fmt;

use serde::{Serialize, Serializer};

/// Findings, in the order of the rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Stable, in kebab-case.
    pub code: Code,
    pub direction: Direction,
    /// Of the field; empty when the whole rule is meant.
    pub path: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Warning,
    /// No plan is made.
    Error,
}

/// From the older version to the newer, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Upgrade,
    Downgrade,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal,)*) => {
        /// What was found, by a code that does not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }
        }
    };
}

codes! {
    /// The field that a rule names is not there, on the side where it is looked for.
    NoSuchField = "no-such-field",
    /// A field would be overwritten.
    FieldExists = "field-exists",
    /// A path leads where there is no record, array or map, or through what may be null.
    BadPath = "bad-path",
    /// A value's type does not fit the other schema's.
    TypeMismatch = "type-mismatch",
    /// A literal is no value of the field's type.
    BadValue = "bad-value",
    /// A field of the other schema is neither produced nor has a default.
    NotProduced = "not-produced",
    /// A regular expression cannot be used.
    BadPattern = "bad-pattern",
    BadTemplate = "bad-template",
    /// The enum has no such symbol.
    UnknownSymbol = "unknown-symbol",
    /// A symbol has no counterpart in the other schema.
    SymbolNotMapped = "symbol-not-mapped",
    /// Something is lost that the rule does not accept in `drops`.
    Loses = "loses",
    /// Something is lost, and accepted.
    Drops = "drops",
    /// `drops` names what is not lost.
    DropsNothing = "drops-nothing",
    /// An operation changes nothing.
    NoEffect = "no-effect",
    /// Some values cannot be taken over: such events are errors.
    MayRefuse = "may-refuse",
    /// Parts that are not as `split` would give them come back otherwise.
    NormalForm = "normal-form",
    /// Nothing leads back, and no downgrade is written.
    NotInvertible = "not-invertible",
    /// The rule cannot be checked against the schemas.
    NotChecked = "not-checked",
    /// JSONATA rounds these.
    Rounds = "rounds",
    BadExpression = "bad-expression",
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl Report {
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        self.findings.iter().filter(is_error)
    }

    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// Paths of what is lost in this direction, accepted or not.
    pub fn lost(&self, direction: Direction) -> impl Iterator<Item = &str> {
        let lost = move |finding: &&Finding| {
            finding.direction == direction && matches!(finding.code, Code::Loses | Code::Drops)
        };
        self.findings
            .iter()
            .filter(lost)
            .map(|finding| &*finding.path)
    }

    pub(crate) fn find(
        &mut self,
        severity: Severity,
        code: Code,
        direction: Direction,
        path: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            code,
            direction,
            path: path.to_string(),
            message: message.into(),
        });
    }
}

/// One line for each finding.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] {}",
            self.severity,
            self.code,
            self.direction.name()
        )?;
        if !self.path.is_empty() {
            write!(f, " `{}`", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}
