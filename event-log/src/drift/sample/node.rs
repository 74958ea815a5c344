//! serde's questions, answered from one node of the schema.

use std::fmt;

use serde::de::{self, Deserializer, IntoDeserializer, Visitor, value::StrDeserializer};

use super::{
    super::shape::{branch_name, in_words, rust_type},
    Sampler,
    access::{Branch, Entries, Items},
};
use crate::migration::schema::{Field, Kind, NodeId};

/// A schema that contains itself is sampled this deep.
const DEEPEST: usize = 8;

/// The type takes no more; what is wrong is told by the findings, or by this text.
#[derive(Debug)]
pub(in crate::drift) struct Stop(pub String);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A place in the schema that the Rust type is asked to take a value for.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    sampler: &'a Sampler,
    node: NodeId,
    path: String,
    depth: usize,
    /// Inside of an `Option` already: null is no longer among the branches.
    present: bool,
}

impl<'a> Node<'a> {
    pub fn root(sampler: &'a Sampler) -> Self {
        Self {
            sampler,
            node: sampler.schema.root(),
            path: String::new(),
            depth: 0,
            present: false,
        }
    }

    pub fn child(&self, name: &str, node: NodeId) -> Self {
        let path = match self.path.as_str() {
            "" => name.into(),
            path => format!("{path}.{name}"),
        };
        Self {
            path,
            node,
            depth: self.depth + 1,
            present: false,
            ..*self
        }
    }

    fn find(&self, what: String) {
        self.sampler.find(&self.path, what);
    }

    fn kind_of(&self, node: NodeId) -> &'a Kind {
        self.sampler.schema.kind(node)
    }

    /// What the schema has here, once null is out of the way.
    fn not_null(&self) -> NodeId {
        self.sampler.place.replace(self.path.clone());
        let Kind::Union(branches) = self.kind_of(self.node) else {
            return self.node;
        };
        let present = self.without_null(branches);
        if present.len() < branches.len() && !self.present {
            self.find("may be null in the schema: make it an Option".into());
        }
        match present[..] {
            [only] => only,
            _ => self.node,
        }
    }

    fn kind(&self) -> &'a Kind {
        self.kind_of(self.not_null())
    }

    fn without_null(&self, branches: &[NodeId]) -> Vec<NodeId> {
        let branches = branches.iter().copied();
        branches
            .filter(|branch| *self.kind_of(*branch) != Kind::Null)
            .collect()
    }

    fn differs(&self, rust: &str) {
        let node = self.not_null();
        self.find(format!(
            "is {} in the schema, but {rust} in Rust: make it {}, or bring {rust} with the next version of the schema",
            in_words(&self.sampler.schema, node),
            rust_type(self.kind_of(node))
        ));
    }

    fn expect(&self, rust: &str, fits: impl FnOnce(&Kind) -> bool) {
        if !fits(self.kind()) {
            self.differs(rust);
        }
    }

    /// A compound type that the schema does not have here: there is no value to go on with.
    pub fn stop<T>(&self, rust: &str) -> Result<T, Stop> {
        self.differs(rust);
        Err(Stop(format!("{rust} does not fit")))
    }

    /// 0 or 1, both in turn; 0 where the schema contains itself without end.
    fn choose_presence(&self, of: &str) -> usize {
        if self.depth > DEEPEST {
            return 0;
        }
        self.sampler.choose(&format!("{}{of}", self.path), 2)
    }

    fn compare_fields(&self, fields: &[Field], rust: &[&str]) {
        for field in fields.iter().filter(|field| !rust.contains(&&*field.name)) {
            self.child(&field.name, field.node).find(format!(
                "is in the schema ({}), but not in Rust: add it",
                in_words(&self.sampler.schema, field.node)
            ));
        }
        for name in rust {
            if !fields.iter().any(|field| *field.name == **name) {
                self.child(name, self.node).find(
                    "is in Rust, but not in the schema: remove it, or bring it with the next version of the schema".into(),
                );
            }
        }
        let ours: Vec<_> = fields.iter().map(|field| &*field.name).collect();
        let in_order = rust.iter().filter(|name| ours.contains(name));
        if !in_order.eq(ours.iter().filter(|name| rust.contains(name))) {
            self.find(format!(
                "the fields stand in another order in Rust, which makes writing slow: put them in the schema's ({})",
                ours.join(", ")
            ));
        }
    }

    fn compare_symbols(&self, symbols: &[&str], variants: &[&str]) {
        for symbol in symbols.iter().filter(|symbol| !variants.contains(symbol)) {
            self.find(format!(
                "has the symbol {symbol} in the schema, but Rust has no such variant: add it"
            ));
        }
        for variant in variants.iter().filter(|variant| !symbols.contains(variant)) {
            self.find(format!(
                "has the variant {variant} in Rust, but the schema has no such symbol: remove it, or bring it with the next version of the schema"
            ));
        }
    }
}

macro_rules! scalars {
    ($($method:ident $rust:literal $kind:pat => $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.expect($rust, |kind| matches!(kind, $kind));
            visitor.$visit($value)
        })*
    };
}

macro_rules! not_in_avro {
    ($($method:ident $rust:literal $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.expect($rust, |_| false);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Stop;

    scalars! {
        deserialize_i32 "i32" Kind::Int => visit_i32(7);
        deserialize_i64 "i64" Kind::Long => visit_i64(1_700_000_000_000);
        deserialize_f32 "f32" Kind::Float => visit_f32(1.5);
        deserialize_f64 "f64" Kind::Double => visit_f64(1.5);
    }

    not_in_avro! {
        deserialize_i8 "i8" visit_i8(7);
        deserialize_i16 "i16" visit_i16(7);
        deserialize_i128 "i128" visit_i128(7);
        deserialize_u8 "u8" visit_u8(7);
        deserialize_u16 "u16" visit_u16(7);
        deserialize_u32 "u32" visit_u32(7);
        deserialize_u64 "u64" visit_u64(7);
        deserialize_u128 "u128" visit_u128(7);
        deserialize_char "char" visit_char('x');
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.expect("bool", |kind| matches!(kind, Kind::Boolean));
        visitor.visit_bool(self.sampler.choose(&self.path, 2) == 1)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.expect("String", |kind| matches!(kind, Kind::String));
        let logical = &self.sampler.schema.node(self.not_null()).logical;
        visitor.visit_str(self.sampler.text(&self.path, logical.as_deref()))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_string(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.kind() {
            Kind::Fixed { size, .. }
            | Kind::Decimal {
                fixed: Some(size), ..
            } => visitor.visit_byte_buf(vec![0xff; *size]),
            Kind::Bytes | Kind::Decimal { .. } => visitor.visit_byte_buf(vec![0, 0xff, 7]),
            _ => self.stop("bytes"),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let nullable = match self.kind_of(self.node) {
            Kind::Union(branches) => self.without_null(branches).len() < branches.len(),
            _ => false,
        };
        if !nullable || self.present {
            self.find(
                "is an Option in Rust, but never null in the schema: make it a plain value, or bring null with the next version of the schema".into(),
            );
        } else if self.choose_presence("?") == 0 {
            return visitor.visit_none();
        }
        visitor.visit_some(Node {
            present: true,
            ..self
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        // serde_avro_fast hands the value over as what it is, which serde's derive refuses.
        self.find(format!(
            "cannot be read as the newtype {name}: give it #[serde(transparent)]"
        ));
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        rust: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.kind() {
            Kind::Record { fields, .. } => {
                self.compare_fields(fields, rust);
                let both = fields
                    .iter()
                    .map(|field| (&*field.name, field.node))
                    .filter(|(name, _)| rust.contains(name))
                    .collect::<Vec<_>>();
                visitor.visit_map(Entries {
                    of: self,
                    rest: both.into_iter(),
                    value: None,
                })
            }
            _ => self.stop("a struct"),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let schema = &self.sampler.schema;
        match self.kind() {
            Kind::Enum { symbols, .. } => {
                let symbols: Vec<_> = symbols.iter().map(|symbol| &**symbol).collect();
                self.compare_symbols(&symbols, variants);
                let common: Vec<_> = symbols
                    .into_iter()
                    .filter(|symbol| variants.contains(symbol))
                    .collect();
                if common.is_empty() {
                    return Err(Stop("no symbol in common".into()));
                }
                let chosen = common[self.sampler.choose(&self.path, common.len())];
                let symbol: StrDeserializer<'_, Stop> = chosen.into_deserializer();
                visitor.visit_enum(symbol)
            }
            Kind::Union(branches) => {
                let branches = self.without_null(branches).into_iter();
                let branches: Vec<_> = branches
                    .map(|branch| (branch_name(schema, branch), branch))
                    .collect();
                let names: Vec<_> = branches.iter().map(|(name, _)| *name).collect();
                self.compare_symbols(&names, variants);
                let common: Vec<_> = branches
                    .into_iter()
                    .filter(|(name, _)| variants.contains(name))
                    .collect();
                if common.is_empty() {
                    return Err(Stop("no branch in common".into()));
                }
                let (name, branch) = common[self.sampler.choose(&self.path, common.len())];
                visitor.visit_enum(Branch {
                    name,
                    content: self.child(name, branch),
                })
            }
            _ => self.stop("an enum"),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.kind() {
            Kind::Array(items) => visitor.visit_seq(Items {
                left: 2 * self.choose_presence("[]"),
                item: self.child("items", *items),
            }),
            _ => self.stop("Vec"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.kind() {
            Kind::Map(values) => {
                let rest = vec![("key", *values); self.choose_presence("[]")];
                visitor.visit_map(Entries {
                    of: self,
                    rest: rest.into_iter(),
                    value: None,
                })
            }
            _ => self.stop("a map, or a struct with #[serde(flatten)],"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        self.stop("a tuple or an array of fixed length")
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.expect("()", |kind| matches!(kind, Kind::Null));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.stop("a type that takes anything (untagged, or free-form)")
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }
}
