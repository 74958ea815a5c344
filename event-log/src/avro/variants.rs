//! What serde's derives know about an event enum: the names of its variants,
//! and which of them a value is.

use std::fmt;

use serde::{
    de::{self, Deserialize, Deserializer, Visitor},
    ser::{self, Impossible, Serialize, Serializer},
};

/// The names of the enum's variants, in order.
///
/// # Panics
/// When `E` is not an enum: a bug of the context's author, found at start.
pub(crate) fn variant_names<E: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    match E::deserialize(Names) {
        Err(Told::Names(names)) => names,
        _ => panic!(
            "{} must be an enum with serde's derives",
            std::any::type_name::<E>()
        ),
    }
}

/// Which variant a value is, by the order of `variant_names`.
pub(crate) fn variant_index<E: Serialize>(event: &E) -> usize {
    match event.serialize(Index) {
        Err(Told::Index(index)) => index as usize,
        _ => panic!(
            "each variant of {} must have named fields, or `{{}}`",
            std::any::type_name::<E>()
        ),
    }
}

/// The answer travels as the error: nothing is read or written.
#[derive(Debug)]
enum Told {
    Names(&'static [&'static str]),
    Index(u32),
    NotAnEnum,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an error")
    }
}

impl std::error::Error for Told {}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::NotAnEnum
    }
}

impl ser::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::NotAnEnum
    }
}

struct Names;

impl<'de> Deserializer<'de> for Names {
    type Error = Told;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Told> {
        Err(Told::Names(variants))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Told> {
        Err(Told::NotAnEnum)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

struct Index;

macro_rules! not_an_enum {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$result, Told> {
            Err(Told::NotAnEnum)
        })*
    };
}

impl Serializer for Index {
    type Ok = ();
    type Error = Told;
    type SerializeSeq = Impossible<(), Told>;
    type SerializeTuple = Impossible<(), Told>;
    type SerializeTupleStruct = Impossible<(), Told>;
    type SerializeTupleVariant = Impossible<(), Told>;
    type SerializeMap = Impossible<(), Told>;
    type SerializeStruct = Impossible<(), Told>;
    type SerializeStructVariant = Impossible<(), Told>;

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeStructVariant, Told> {
        Err(Told::Index(index))
    }

    not_an_enum! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<(), Told> {
        Err(Told::NotAnEnum)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<(), Told> {
        Err(Told::NotAnEnum)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Told> {
        Err(Told::NotAnEnum)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    enum Light {
        On {},
        Off { why: String },
    }

    #[test]
    fn serde_tells_the_variants() {
        assert_eq!(variant_names::<Light>(), ["On", "Off"]);
        assert_eq!(variant_index(&Light::On {}), 0);
        assert_eq!(variant_index(&Light::Off { why: String::new() }), 1);
    }

    #[test]
    #[should_panic(expected = "must be an enum")]
    fn a_struct_is_no_event_enum() {
        variant_names::<String>();
    }
}
