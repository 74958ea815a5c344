//! Writing an event in an older version, as long as the newest is not activated.
//!
//! The event is encoded, led to the older version and back again: what does not
//! come back as it was is refused before it is in the log.

use std::sync::OnceLock;

use kernel::Event;

use super::{EncodeError, Variant, push_frame, reading::Versions};
use crate::migration::Plan;

/// The ways down from the newest version, each made when it is first needed.
#[derive(Debug)]
pub(super) struct Older(Vec<OnceLock<Result<Plan, String>>>);

impl Older {
    pub fn of(versions: &Versions) -> Self {
        Self((1..versions.newest()).map(|_| OnceLock::new()).collect())
    }

    fn down(&self, versions: &Versions, version: u32) -> Result<&Plan, String> {
        let place = (version as usize).checked_sub(1);
        let place = place.and_then(|index| self.0.get(index));
        let place = place.ok_or_else(|| format!("there is no version {version}"))?;
        let made = place.get_or_init(|| {
            let plan = versions.history.plan(versions.newest(), version);
            plan.map_err(|error| error.to_string())
        });
        made.as_ref().map_err(Clone::clone)
    }
}

impl Variant {
    /// Appends the event in an older version, if that holds all of it.
    pub(super) fn encode_older<E: Event>(
        &self,
        event: &E,
        version: u32,
        into: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let before = into.len();
        self.encode_newest(event, into)?;
        let newest = into.split_off(before);
        let not_active = |field: String, reason: String| EncodeError::NotActive {
            event_type: self.event_type.clone(),
            version,
            field,
            reason,
        };
        let failed = |reason: String| not_active(String::new(), reason);
        let (down, up) = match (
            self.older.down(&self.versions, version),
            self.versions.upward(version),
        ) {
            (Ok(down), Some(up)) => (down, up),
            (Err(reason), _) => return Err(failed(reason)),
            (_, None) => return Err(failed("there is no such version".into())),
        };
        let schema_id = self
            .versions
            .id(version)
            .ok_or_else(|| failed("it is not registered".into()))?;
        let event = down.writer().decode(&newest[5..]);
        let event = event.map_err(|error| failed(error.to_string()))?;
        let older = down.apply(event.clone());
        let older = older.map_err(|error| not_active(error.field(), error.to_string()))?;
        let again = up.apply(older.clone());
        let again = again.map_err(|error| not_active(error.field(), error.to_string()))?;
        if let Some(field) = event.first_difference(&again) {
            let reason = "it would be read back otherwise".to_owned();
            return Err(not_active(field, reason));
        }
        push_frame(schema_id, into);
        down.reader().encode(&older, into).map_err(|error| {
            into.truncate(before);
            failed(error.to_string())
        })
    }
}
