//! serde's questions, answered from one node of the schema.

use std::fmt;

use serde::de::{self, Deserializer, IntoDeserializer, Visitor, value::StrDeserializer};
use serde_json::Value;

use super::{
    super::shape::{Field, Shape},
    Sampler,
    access::{Branch, Entries, Items},
};

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
    sampler: &'a Sampler<'a>,
    schema: &'a Value,
    path: String,
    depth: usize,
    /// Inside of an `Option` already: null is no longer among the branches.
    present: bool,
}

impl<'a> Node<'a> {
    pub fn root(sampler: &'a Sampler<'a>, schema: &'a Value) -> Self {
        Self {
            sampler,
            schema,
            path: String::new(),
            depth: 0,
            present: false,
        }
    }

    pub fn child(&self, name: &str, schema: &'a Value) -> Self {
        let path = match self.path.as_str() {
            "" => name.into(),
            path => format!("{path}.{name}"),
        };
        Self {
            path,
            schema,
            depth: self.depth + 1,
            present: false,
            ..*self
        }
    }

    fn find(&self, what: String) {
        self.sampler.find(&self.path, what);
    }

    /// What the schema has here, once null is out of the way.
    pub fn shape(&self) -> Shape<'a> {
        self.sampler.place.replace(self.path.clone());
        let shape = self.sampler.shape(self.schema);
        let Shape::Union(branches) = shape else {
            return shape;
        };
        let all = branches.len();
        let mut present: Vec<_> = branches
            .into_iter()
            .filter(|branch| !is_null(branch))
            .collect();
        if present.len() < all && !self.present {
            self.find("may be null in the schema: make it an Option".into());
        }
        match present.len() {
            1 => self.sampler.shape(present.remove(0)),
            _ => Shape::Union(present),
        }
    }

    fn differs(&self, rust: &str, shape: &Shape<'_>) {
        self.find(format!(
            "is {shape} in the schema, but {rust} in Rust: make it {}, or bring {rust} with the next version of the schema",
            shape.rust()
        ));
    }

    fn expect(&self, rust: &str, fits: impl FnOnce(&Shape<'_>) -> bool) {
        let shape = self.shape();
        if !fits(&shape) {
            self.differs(rust, &shape);
        }
    }

    /// A compound type that the schema does not have here: there is no value to go on with.
    pub fn stop<T>(&self, rust: &str, shape: &Shape<'_>) -> Result<T, Stop> {
        self.differs(rust, shape);
        Err(Stop(format!("{rust} does not fit")))
    }

    /// 0 or 1, both in turn; 0 where the schema contains itself without end.
    fn choose_presence(&self, of: &str) -> usize {
        if self.depth > DEEPEST {
            return 0;
        }
        self.sampler.choose(&format!("{}{of}", self.path), 2)
    }

    fn compare_fields(&self, fields: &[Field<'a>], rust: &[&str]) {
        for field in fields.iter().filter(|field| !rust.contains(&field.name)) {
            self.child(field.name, field.schema).find(format!(
                "is in the schema ({}), but not in Rust: add it",
                self.sampler.shape(field.schema)
            ));
        }
        for name in rust {
            if !fields.iter().any(|field| field.name == *name) {
                self.child(name, self.schema).find(
                    "is in Rust, but not in the schema: remove it, or bring it with the next version of the schema".into(),
                );
            }
        }
        let ours: Vec<_> = fields.iter().map(|field| field.name).collect();
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
    ($($method:ident $rust:literal $shape:pat => $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.expect($rust, |shape| matches!(shape, $shape));
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
        deserialize_i32 "i32" Shape::Int => visit_i32(7);
        deserialize_i64 "i64" Shape::Long => visit_i64(1_700_000_000_000);
        deserialize_f32 "f32" Shape::Float => visit_f32(1.5);
        deserialize_f64 "f64" Shape::Double => visit_f64(1.5);
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
        self.expect("bool", |shape| matches!(shape, Shape::Boolean));
        visitor.visit_bool(self.sampler.choose(&self.path, 2) == 1)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let logical = match self.shape() {
            Shape::String(logical) => logical,
            other => {
                self.differs("String", &other);
                None
            }
        };
        visitor.visit_str(self.sampler.text(&self.path, logical))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_string(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.shape() {
            Shape::Fixed(size) => visitor.visit_byte_buf(vec![0xff; size]),
            Shape::Bytes => visitor.visit_byte_buf(vec![0, 0xff, 7]),
            other => self.stop("bytes", &other),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let nullable = match self.sampler.shape(self.schema) {
            Shape::Union(branches) => branches.into_iter().any(is_null),
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
        match self.shape() {
            Shape::Record(fields) => {
                self.compare_fields(&fields, rust);
                let both = fields
                    .into_iter()
                    .filter(|field| rust.contains(&field.name))
                    .collect::<Vec<_>>();
                visitor.visit_map(Entries {
                    of: self,
                    rest: both.into_iter(),
                    value: None,
                })
            }
            other => self.stop("a struct", &other),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.shape() {
            Shape::Enum(symbols) => {
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
            Shape::Union(branches) => {
                let names: Vec<_> = branches
                    .iter()
                    .map(|branch| self.sampler.branch_name(branch))
                    .collect();
                let all: Vec<_> = names.iter().map(String::as_str).collect();
                self.compare_symbols(&all, variants);
                let common: Vec<_> = names
                    .iter()
                    .zip(branches)
                    .filter(|(name, _)| variants.contains(&name.as_str()))
                    .collect();
                if common.is_empty() {
                    return Err(Stop("no branch in common".into()));
                }
                let (name, schema) = common[self.sampler.choose(&self.path, common.len())];
                visitor.visit_enum(Branch {
                    name,
                    content: self.child(name, schema),
                })
            }
            other => self.stop("an enum", &other),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.shape() {
            Shape::Array(items) => visitor.visit_seq(Items {
                left: 2 * self.choose_presence("[]"),
                item: self.child("items", items),
            }),
            other => self.stop("Vec", &other),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.shape() {
            Shape::Map(values) => {
                let rest = vec![
                    Field {
                        name: "key",
                        schema: values,
                    };
                    self.choose_presence("[]")
                ];
                visitor.visit_map(Entries {
                    of: self,
                    rest: rest.into_iter(),
                    value: None,
                })
            }
            other => self.stop("a map, or a struct with #[serde(flatten)],", &other),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        let shape = self.shape();
        self.stop("a tuple or an array of fixed length", &shape)
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
        self.expect("()", |shape| matches!(shape, Shape::Null));
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
        let shape = self.shape();
        self.stop(
            "a type that takes anything (untagged, or free-form)",
            &shape,
        )
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }
}

fn is_null(branch: &Value) -> bool {
    branch == "null" || branch["type"] == "null"
}
