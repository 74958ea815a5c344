//! Payloads as they lie in the log: Confluent's prefix, then Avro. Three small records are read by hand.

use super::rules::Happening;

/// A zero and the schema's id.
const PREFIX: usize = 5;

/// Of an event with this type; nothing when it is none of a task's.
pub(super) fn happening(event_type: &str, value: &[u8]) -> Option<Happening> {
    let mut rest = value.get(PREFIX..).filter(|_| value[0] == 0)?;
    match event_type {
        "annals.tasks.TaskCreated" => Some(Happening::Created {
            title: text(&mut rest)?,
        }),
        "annals.tasks.TaskAssigned" => Some(Happening::Assigned {
            to: text(&mut rest)?,
        }),
        "annals.tasks.TaskCompleted" => Some(Happening::Completed {
            by: text(&mut rest)?,
        }),
        _ => None,
    }
}

/// Avro's string: its length as a zigzag varint, then UTF-8.
fn text(from: &mut &[u8]) -> Option<String> {
    let mut length = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let length = usize::try_from((length >> 1) as i64 ^ -((length & 1) as i64)).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    String::from_utf8(text.into()).ok()
}

/// The same, for the checker's own tests.
#[cfg(test)]
pub(super) fn payload(happening: &Happening) -> (&'static str, Vec<u8>) {
    let (name, text) = match happening {
        Happening::Created { title } => ("annals.tasks.TaskCreated", title),
        Happening::Assigned { to } => ("annals.tasks.TaskAssigned", to),
        Happening::Completed { by } => ("annals.tasks.TaskCompleted", by),
    };
    assert!(text.len() < 64, "one byte holds the length");
    let mut value = vec![0, 0, 0, 0, 1, (text.len() as u8) << 1];
    value.extend(text.bytes());
    (name, value)
}
