//! All versions of one event and the edges between them.

use std::sync::Arc;

use super::{
    Migration,
    plan::{Plan, PlanError, Step},
    report::{Direction, Report},
    schema::{Schema, SchemaError},
};

/// Versions of one event, oldest first, from 1 without a gap.
#[derive(Clone, Debug, Default)]
pub struct History {
    versions: Vec<Version>,
}

#[derive(Clone, Debug)]
struct Version {
    schema: Arc<Schema>,
    /// From the version before; without one it is plain schema resolution.
    migration: Option<Migration>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("there is no version {0}")]
    NoSuchVersion(u32),
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl History {
    /// Adds the next version.
    pub fn push(&mut self, schema: &str, migration: Option<Migration>) -> Result<(), SchemaError> {
        self.versions.push(Version {
            schema: Arc::new(Schema::parse(schema)?),
            migration,
        });
        Ok(())
    }

    /// The number of the newest version; 0 when there is none.
    pub fn newest(&self) -> u32 {
        self.versions.len() as u32
    }

    pub fn schema(&self, version: u32) -> Option<&Arc<Schema>> {
        Some(&self.version(version)?.schema)
    }

    /// The edge that leads to a version from the one before.
    pub fn migration(&self, version: u32) -> Option<&Migration> {
        self.version(version)?.migration.as_ref()
    }

    fn version(&self, version: u32) -> Option<&Version> {
        self.versions.get((version as usize).checked_sub(1)?)
    }

    /// Checks the edge that leads to this version, both ways; plain resolution has no findings.
    pub fn check(&self, version: u32) -> Result<Report, HistoryError> {
        let missing = HistoryError::NoSuchVersion;
        let newer = self.version(version).ok_or_else(|| missing(version))?;
        let older = self
            .version(version - 1)
            .ok_or_else(|| missing(version - 1))?;
        Ok(match &newer.migration {
            Some(migration) => migration.check(&older.schema, &newer.schema),
            None => Report::default(),
        })
    }

    /// The way from one version to another, up or down, over every version between.
    pub fn plan(&self, from: u32, to: u32) -> Result<Plan, HistoryError> {
        let missing = HistoryError::NoSuchVersion;
        let writer = self.schema(from).ok_or_else(|| missing(from))?;
        self.schema(to).ok_or_else(|| missing(to))?;
        let upward = (from + 1..=to).map(|version| (version, version, Direction::Upgrade));
        let downward = (to..from)
            .rev()
            .map(|version| (version + 1, version, Direction::Downgrade));
        let mut steps = Vec::new();
        for (edge, to, direction) in upward.chain(downward) {
            let migration = self.migration(edge);
            let reader = self.schema(to).ok_or_else(|| missing(to))?;
            steps.push(Step {
                rule: migration.and_then(|migration| migration.rule(direction)),
                direction,
                to: reader.clone(),
            });
        }
        Ok(Plan::compile(writer.clone(), &steps)?)
    }
}
