//! What is inside of a node: fields, entries, items, the branch of a union.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor, value::StrDeserializer,
};

use super::node::{Node, Stop};
use crate::migration::schema::NodeId;

/// The fields of a record, or the entries of a map.
pub(super) struct Entries<'a> {
    pub of: Node<'a>,
    /// Their names, and what their values are.
    pub rest: std::vec::IntoIter<(&'a str, NodeId)>,
    pub value: Option<(&'a str, NodeId)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        self.value = self.rest.next();
        let Some((name, _)) = self.value else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Stop> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        match self.value.take() {
            Some((name, value)) => seed.deserialize(self.of.child(name, value)),
            None => Err(Stop("a value was asked for before its key".into())),
        }
    }
}

pub(super) struct Items<'a> {
    pub item: Node<'a>,
    pub left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.item.clone()).map(Some)
    }
}

/// A branch of a union as a variant of a Rust enum.
pub(super) struct Branch<'a> {
    pub name: &'a str,
    pub content: Node<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Branch<'a> {
    type Error = Stop;
    type Variant = Node<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Node<'a>), Stop> {
        let name: StrDeserializer<'_, Stop> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Node<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.stop("a variant without a value")
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Stop> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_struct("", fields, visitor)
    }
}
