//! The single rules of schema resolution, for `compatibility`, and the words for their failures.

use super::{Field, Fields, Primitive, Shape};

pub(super) struct SeveralFields;

/// The field that a reader's field takes its value from: of its name or one of its aliases. It is
/// found soonest in the place that the reader has it in.
pub(super) fn written_field<'w>(
    field: &Field,
    place: usize,
    writer: &'w Fields,
) -> Result<Option<&'w Field>, SeveralFields> {
    if field.aliases.is_empty() {
        let there = writer.list.get(place);
        let there = there.filter(|there| there.name == field.name);
        return Ok(there.or_else(|| writer.named(&field.name)));
    }
    let mut names: Vec<&str> = field.aliases.iter().map(String::as_str).collect();
    names.push(&field.name);
    names.sort_unstable();
    names.dedup();
    let mut matching = names.into_iter().filter_map(|name| writer.named(name));
    match (matching.next(), matching.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(SeveralFields),
    }
}

pub(super) fn promotes(from: Primitive, to: Primitive) -> bool {
    use Primitive::{Bytes, Double, Float, Int, Long, String};
    from == to
        || matches!(
            (from, to),
            (Int, Long | Float | Double)
                | (Long, Float | Double)
                | (Float, Double)
                | (String, Bytes)
                | (Bytes, String)
        )
}

pub(super) fn lacking(written: &Shape) -> String {
    format!(
        "reader union lacking writer type: {}",
        written.kind().to_uppercase()
    )
}

/// A step on the way from the root of a schema to a place in it.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}

/// The way as a JSON pointer.
pub(super) fn pointer(path: &[Step]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    path.iter()
        .map(|step| match step {
            Step::Key(key) => format!("/{key}"),
            Step::Index(index) => format!("/{index}"),
        })
        .collect()
}
