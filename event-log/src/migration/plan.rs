//! From one written version to the one that is read, compiled once.

use std::sync::Arc;

use super::{
    Rule,
    action::Action,
    binary::Malformed,
    compile,
    fingerprint::{canonical, fingerprint},
    jsonata::Expression,
    reason::Reason,
    report::{Code, Direction, Report, Severity},
    schema::{Kind, NodeId, Schema},
    value::Value,
};

/// What is done to an event of one schema to have it in another.
#[derive(Clone, Debug)]
pub struct Plan {
    writer: Arc<Schema>,
    stages: Vec<Stage>,
    fingerprint: String,
    /// One of its schemas has a personal field. A rule may put that anywhere, so that no error
    /// quotes anything.
    is_discreet: bool,
}

#[derive(Clone, Debug)]
struct Stage {
    work: Work,
    to: Arc<Schema>,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Actions(Vec<Action>),
    Expression(Expression),
}

/// One edge on the way; without a rule it is plain schema resolution.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    pub rule: Option<&'a Rule>,
    pub direction: Direction,
    pub to: Arc<Schema>,
}

/// The rules do not fit the schemas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rules do not fit the schemas:\n{0}")]
pub struct PlanError(pub Report);

/// An event that the rules cannot take. It quotes what stands in the event, unless a schema on the
/// way has personal fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("field `{field}` cannot be migrated: {reason}")]
    Field { field: String, reason: String },
    #[error("the expression failed: {0}")]
    Expression(String),
}

impl MigrateError {
    /// The field that stands in the way; empty when it is the whole event.
    pub fn field(&self) -> String {
        match self {
            Self::Field { field, .. } => field.clone(),
            Self::Malformed(_) | Self::Expression(_) => String::new(),
        }
    }
}

impl Plan {
    /// Compiles the way from a written schema over each step to the last one's.
    ///
    /// # Errors
    /// The rules do not fit; the report is that of the first step that does not.
    pub fn compile(writer: Arc<Schema>, steps: &[Step<'_>]) -> Result<Self, PlanError> {
        let mut stages = Vec::with_capacity(steps.len());
        let mut parts = vec![writer.text().to_owned()];
        let mut from = writer.clone();
        for step in steps {
            let (work, report) = match step.rule {
                Some(rule) => rule.compile(&from, &step.to, step.direction),
                None => plain(&from, &step.to, step.direction),
            };
            let Some(work) = work.filter(|_| report.is_ok()) else {
                return Err(PlanError(report));
            };
            let rule = serde_json::to_value(step.rule).unwrap_or_default();
            parts.extend([canonical(&rule), step.to.text().to_owned()]);
            if let Some(Rule::Jsonata { .. }) = step.rule {
                parts.push(format!("JSONATA {}", jsonata::MEANING));
            }
            stages.push(Stage {
                work,
                to: step.to.clone(),
            });
            from = step.to.clone();
        }
        let is_discreet =
            writer.has_personal_fields() || stages.iter().any(|it| it.to.has_personal_fields());
        Ok(Self {
            is_discreet,
            writer,
            stages,
            fingerprint: fingerprint(parts.iter().map(String::as_bytes)),
        })
    }

    /// Of both schemas and every rule between them, and of what expressions mean: hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The schema that its events were written with.
    pub fn writer(&self) -> &Arc<Schema> {
        &self.writer
    }

    /// The schema that events have when it is done.
    pub fn reader(&self) -> &Arc<Schema> {
        self.stages.last().map_or(&self.writer, |stage| &stage.to)
    }

    /// Reads a datum of the writer's schema and appends that of the reader's.
    ///
    /// After an error `into` is as it was.
    pub fn migrate(&self, datum: &[u8], into: &mut Vec<u8>) -> Result<(), MigrateError> {
        let value = self.apply(self.writer.decode(datum)?)?;
        let before = into.len();
        self.reader().encode(&value, into).map_err(|malformed| {
            into.truncate(before);
            malformed.into()
        })
    }

    /// The same on values.
    pub fn apply(&self, mut value: Value) -> Result<Value, MigrateError> {
        let told = |reason: Reason| match self.is_discreet {
            true => reason.told_discreetly(),
            false => reason.told(),
        };
        for stage in &self.stages {
            match &stage.work {
                Work::Actions(actions) => {
                    for action in actions {
                        action
                            .apply(&mut value)
                            .map_err(|refused| MigrateError::Field {
                                field: refused.field,
                                reason: told(refused.reason),
                            })?;
                    }
                    value = stage
                        .to
                        .conform(value)
                        .map_err(|unfit| MigrateError::Field {
                            field: unfit.path(),
                            reason: told(unfit.reason),
                        })?;
                }
                Work::Expression(expression) => {
                    if has_large_long(&value) {
                        let reason = "it has a long that JSONATA would round";
                        return Err(MigrateError::Expression(reason.into()));
                    }
                    let failed = |reason| MigrateError::Expression(told(reason));
                    let json = expression.evaluate(&value).map_err(failed)?;
                    let made = Value::from_rule(&json, &stage.to, stage.to.root());
                    value = made.map_err(|reason| failed(Reason::Opaque(reason)))?;
                }
            }
        }
        Ok(value)
    }
}

/// Schema resolution alone: what the newer version lacks is passed over, as every Avro reader does.
fn plain(from: &Schema, to: &Schema, direction: Direction) -> (Option<Work>, Report) {
    let (actions, mut report) = compile::compile(&[], &[], from, to, direction);
    for finding in &mut report.findings {
        if finding.code == Code::Loses {
            finding.severity = Severity::Note;
            finding.code = Code::Drops;
            finding.message = "the other version does not have it".into();
        }
    }
    (Some(Work::Actions(actions)), report)
}

impl Rule {
    /// The rule made ready; nothing when the report has errors.
    pub(super) fn compile(
        &self,
        from: &Schema,
        to: &Schema,
        direction: Direction,
    ) -> (Option<Work>, Report) {
        match self {
            Self::Annals { operations, drops } => {
                let (actions, report) = compile::compile(operations, drops, from, to, direction);
                (Some(Work::Actions(actions)), report)
            }
            Self::Jsonata { expression } => {
                let mut report = Report::default();
                let (note, code) = (Severity::Note, Code::NotChecked);
                let message = "an expression cannot be checked against the schemas: verify it";
                report.find(note, code, direction, "", message);
                for path in rounded(from) {
                    let (warning, code) = (Severity::Warning, Code::Rounds);
                    let message = "JSONATA knows no such numbers: use an ANNALS rule";
                    report.find(warning, code, direction, path, message);
                }
                match Expression::compile(expression) {
                    Ok(expression) => (Some(Work::Expression(expression)), report),
                    Err(reason) => {
                        let (error, code) = (Severity::Error, Code::BadExpression);
                        report.find(error, code, direction, "", reason);
                        (None, report)
                    }
                }
            }
        }
    }
}

/// Whether there is a long that no float is.
fn has_large_long(value: &Value) -> bool {
    match value {
        Value::Long(long) => long.unsigned_abs() > 1 << 53,
        Value::Array(items) => items.iter().any(has_large_long),
        Value::Map(entries) => entries.iter().any(|(_, value)| has_large_long(value)),
        Value::Record(record) => record.fields.iter().any(|(_, value)| has_large_long(value)),
        _ => false,
    }
}

/// Longs and decimals, which an expression would round.
fn rounded(schema: &Schema) -> Vec<String> {
    fn look(
        schema: &Schema,
        node: NodeId,
        path: &str,
        seen: &mut Vec<NodeId>,
        found: &mut Vec<String>,
    ) {
        match schema.kind(node) {
            Kind::Long | Kind::Decimal { .. } => found.push(path.to_owned()),
            Kind::String if schema.node(node).logical.as_deref() == Some("decimal") => {
                found.push(path.to_owned());
            }
            Kind::Array(inner) => look(schema, *inner, &format!("{path}[]"), seen, found),
            Kind::Map(inner) => look(schema, *inner, &format!("{path}{{}}"), seen, found),
            Kind::Union(branches) => {
                for branch in branches {
                    look(schema, *branch, path, seen, found);
                }
            }
            Kind::Record { fields, .. } if !seen.contains(&node) => {
                seen.push(node);
                for field in fields {
                    let path = match path {
                        "" => field.name.to_string(),
                        path => format!("{path}.{}", field.name),
                    };
                    look(schema, field.node, &path, seen, found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(schema, schema.root(), "", &mut Vec::new(), &mut found);
    found
}
