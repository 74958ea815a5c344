//! Names of types: a simple name within a namespace (Avro specification, "Names").

use super::Primitive;

/// A full name, the namespace empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FullName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl FullName {
    /// A name as it stands in a schema: one with a dot is full, any other belongs to `namespace`.
    /// `None` if it is not a name by the specification.
    pub(super) fn parse(text: &str, namespace: &str) -> Option<Self> {
        let (namespace, name) = text.rsplit_once('.').unwrap_or((namespace, text));
        (is_name(name) && is_namespace(namespace)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    pub(super) fn full(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}.{}", self.namespace, self.name)
        }
    }

    /// How the type is referred to from within `namespace`: by its simple name if that is enough.
    /// A type that is called like a kind of type is always written in full, since a reader would
    /// take the simple name for the kind.
    pub(super) fn qualified(&self, namespace: &str) -> String {
        if self.namespace == namespace && !is_kind(&self.name) {
            self.name.clone()
        } else {
            self.full()
        }
    }
}

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .chars()
            .all(|next| next.is_ascii_alphanumeric() || next == '_')
}

pub(super) fn is_namespace(text: &str) -> bool {
    text.is_empty() || text.split('.').all(is_name)
}

fn is_kind(name: &str) -> bool {
    Primitive::named(name).is_some()
        || matches!(
            name,
            "record" | "enum" | "fixed" | "array" | "map" | "union"
        )
}
