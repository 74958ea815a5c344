//! What who only reads can read beyond its own files: later versions, by the rules that lead down
//! from them. Who decides must not: it would lose what its own version cannot hold.

use std::sync::Arc;

use super::KnownVersions;
use crate::{
    migration::{Direction, Plan, Schema, Step},
    registry::{RegisteredVersion, RegistryClient, RegistryError},
};

impl KnownVersions {
    /// The same with the versions that can be read through the registry's rules at present.
    pub async fn through(&self, registry: &RegistryClient) -> Result<Self, RegistryError> {
        let mut readable = self.clone();
        for (event_type, newest) in &mut readable.versions {
            match registry.versions(event_type).await {
                Ok(registered) => *newest = led_down_to(*newest, &registered),
                // It is not registered yet: nothing is written.
                Err(RegistryError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(readable)
    }
}

/// The last version from which rules lead down to ours.
fn led_down_to(ours: u32, registered: &[RegisteredVersion]) -> u32 {
    let mut readable = ours;
    let mut steps: Vec<Step<'_>> = Vec::new();
    for pair in registered.windows(2) {
        let [below, above] = pair else { continue };
        if above.version <= ours {
            continue;
        }
        let schemas = (Schema::parse(&below.schema), Schema::parse(&above.schema));
        let (Ok(below), Ok(writer)) = schemas else {
            break;
        };
        let migration = above.migration.as_ref();
        steps.insert(
            0,
            Step {
                rule: migration.and_then(|migration| migration.rule(Direction::Downgrade)),
                direction: Direction::Downgrade,
                to: Arc::new(below),
            },
        );
        if Plan::compile(Arc::new(writer), &steps).is_err() {
            break;
        }
        readable = above.version;
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Migration;

    fn version(version: u32, fields: &str, migration: Option<&str>) -> RegisteredVersion {
        RegisteredVersion {
            version,
            id: version,
            schema: format!(
                r#"{{"type":"record","namespace":"annals.tasks","name":"Created","fields":[{fields}]}}"#
            ),
            migration: migration.map(|text| Migration::parse(text).unwrap()),
        }
    }

    const TITLE: &str = r#"{"name":"title","type":"string"}"#;
    const NAME: &str = r#"{"name":"name","type":"string"}"#;
    const RENAME: &str = r#"{"upgrade":{"type":"ANNALS","operations":[
        {"op":"rename","from":"title","to":"name"}]}}"#;

    #[test]
    fn a_later_version_is_read_as_far_as_rules_lead_down_from_it() {
        let registered = [
            version(1, TITLE, None),
            version(2, NAME, Some(RENAME)),
            // Nothing says what becomes of the title.
            version(3, r#"{"name":"other","type":"int"}"#, None),
        ];
        assert_eq!(led_down_to(1, &registered[..1]), 1);
        assert_eq!(led_down_to(1, &registered[..2]), 2);
        assert_eq!(led_down_to(1, &registered), 2);
        assert_eq!(led_down_to(3, &registered), 3);
    }
}
