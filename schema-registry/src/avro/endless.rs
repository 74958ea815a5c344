//! Records that can have no value: each holds another one of its own kind, and so without end.
//! Java takes such a schema and fails at the first value.

use super::{AvroSchema, FullName, Shape, TypeId};

/// The first record of which no value can ever be written, if there is one.
pub(super) fn find_endless(schema: &AvroSchema) -> Option<&FullName> {
    // A record has values once each of its fields has, a union once any of its branches has.
    let mut missing: Vec<usize> = Vec::with_capacity(schema.types.len());
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); schema.types.len()];
    for (id, type_) in schema.types.iter().enumerate() {
        let (parts, needed): (Vec<TypeId>, _) = match &type_.shape {
            Shape::Record { fields, .. } => (
                fields.list.iter().map(|field| field.type_).collect(),
                fields.list.len(),
            ),
            Shape::Union(branches) => (branches.clone(), branches.len().min(1)),
            // An array or a map may be empty.
            Shape::Primitive(_) | Shape::Enum { .. } | Shape::Fixed { .. } => (Vec::new(), 0),
            Shape::Array(_) | Shape::Map(_) => (Vec::new(), 0),
        };
        missing.push(needed);
        for part in parts {
            waiting[part.0].push(id);
        }
    }
    let mut settled: Vec<usize> = (0..missing.len()).filter(|id| missing[*id] == 0).collect();
    while let Some(id) = settled.pop() {
        for waits in std::mem::take(&mut waiting[id]) {
            if missing[waits] > 0 {
                missing[waits] -= 1;
                if missing[waits] == 0 {
                    settled.push(waits);
                }
            }
        }
    }
    let endless = missing
        .iter()
        .zip(&schema.types)
        .filter(|(missing, _)| **missing > 0);
    endless
        .filter_map(|(_, type_)| type_.shape.named())
        .map(|named| &named.name)
        .next()
}
