//! JSON text → graph of types, by the rules of the Avro specification ("Schema Declaration").
//!
//! Where the specification and Java differ: names are ASCII as specified (Java takes any letter),
//! and what Java checks only when it is used, the default of an enum field and the length of a
//! fixed one, is checked here at once. A name must be defined before it is used.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::attributes::{attribute, custom, read_doc, read_named, read_strings};
use super::default::check_defaults;
use super::endless::find_endless;
use super::json::{Json, Members};
use super::names::is_name;
use super::{
    AvroSchema, Field, Fields, FullName, InvalidSchema, Named, Primitive, Shape, Type, TypeId,
};

pub(super) fn parse<T: AsRef<str>>(
    referenced: &[T],
    text: &str,
) -> Result<AvroSchema, InvalidSchema> {
    let mut parser = Parser {
        types: Vec::new(),
        names: HashMap::new(),
        primitives: Default::default(),
        objects: 0,
    };
    for other in referenced {
        parser.read_text(other.as_ref())?;
    }
    let foreign = parser.types.len();
    let root = parser.read_text(text)?;
    let schema = AvroSchema {
        types: parser.types,
        root,
        foreign,
        bytes: text.len() + referenced.iter().map(|it| it.as_ref().len()).sum::<usize>(),
    };
    check_defaults(&schema).map_err(|(record, field, reason)| InvalidSchema::BadDefault {
        record,
        field,
        reason,
    })?;
    match find_endless(&schema) {
        Some(record) => Err(InvalidSchema::Endless(record.full())),
        None => Ok(schema),
    }
}

struct Parser {
    types: Vec<Type>,
    names: HashMap<FullName, TypeId>,
    /// Those without attributes.
    primitives: [Option<TypeId>; Primitive::ALL.len()],
    /// In defaults and attributes.
    objects: usize,
}

impl Parser {
    fn read_text(&mut self, text: &str) -> Result<TypeId, InvalidSchema> {
        // serde_json stops at 128 levels, which bounds the recursion here and wherever a schema is
        // walked without following names.
        let value: Json = serde_json::from_str(text).map_err(InvalidSchema::NotJson)?;
        self.read_type(value, "")
    }

    fn read_type(&mut self, value: Json<'_>, namespace: &str) -> Result<TypeId, InvalidSchema> {
        match value {
            Json::String(name) => self.read_reference(&name, namespace, Members::default()),
            Json::Array(branches) => self.read_union(branches, namespace),
            Json::Object(object) => self.read_object(object, namespace),
            Json::Null => Err(InvalidSchema::NotAType("null")),
            Json::Bool(_) => Err(InvalidSchema::NotAType("a boolean")),
            Json::Number(_) => Err(InvalidSchema::NotAType("a number")),
        }
    }

    fn read_object(
        &mut self,
        mut object: Members<'_>,
        namespace: &str,
    ) -> Result<TypeId, InvalidSchema> {
        let Some(Json::String(kind)) = object.remove("type") else {
            return Err(attribute("type", "type", "the name of a type"));
        };
        match &*kind {
            "record" => self.read_record(object, namespace, false),
            "error" => self.read_record(object, namespace, true),
            "enum" => self.read_enum(object, namespace),
            "fixed" => self.read_fixed(object, namespace),
            "array" => {
                let items = object
                    .remove("items")
                    .ok_or_else(|| attribute("array", "items", "a type"))?;
                let items = self.read_type(items, namespace)?;
                let attributes = self.keep(custom(object, false))?;
                Ok(self.add(Shape::Array(items), attributes))
            }
            "map" => {
                let values = object
                    .remove("values")
                    .ok_or_else(|| attribute("map", "values", "a type"))?;
                let values = self.read_type(values, namespace)?;
                let attributes = self.keep(custom(object, false))?;
                Ok(self.add(Shape::Map(values), attributes))
            }
            name => self.read_reference(name, namespace, object),
        }
    }

    /// A primitive type, or one that was defined before. Attributes beside the name of a defined
    /// type have no place in the type and are dropped, as by Java.
    fn read_reference(
        &mut self,
        name: &str,
        namespace: &str,
        object: Members<'_>,
    ) -> Result<TypeId, InvalidSchema> {
        if let Some(primitive) = Primitive::named(name) {
            let attributes = self.keep(custom(object, false))?;
            if !attributes.is_empty() {
                return Ok(self.add(Shape::Primitive(primitive), attributes));
            }
            // Most types of a schema are of these: one of each will do.
            let known = &mut self.primitives[primitive as usize];
            let next = TypeId(self.types.len());
            let id = *known.get_or_insert(next);
            if id == next {
                self.add(Shape::Primitive(primitive), attributes);
            }
            return Ok(id);
        }
        // A simple name that the namespace does not know may be one without a namespace.
        [namespace, ""]
            .into_iter()
            .filter_map(|namespace| FullName::parse(name, namespace))
            .find_map(|name| self.names.get(&name).copied())
            .ok_or_else(|| InvalidSchema::UnknownType(name.to_owned()))
    }

    fn read_union(
        &mut self,
        branches: Vec<Json<'_>>,
        namespace: &str,
    ) -> Result<TypeId, InvalidSchema> {
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for branch in branches {
            let id = self.read_type(branch, namespace)?;
            let shape = &self.types[id.0].shape;
            if let Shape::Union(_) = shape {
                return Err(InvalidSchema::NestedUnion);
            }
            let name = shape
                .named()
                .map_or_else(|| shape.kind().to_owned(), |named| named.name.full());
            if seen.contains(&name) {
                return Err(InvalidSchema::DuplicateBranch(name));
            }
            seen.insert(name);
            ids.push(id);
        }
        Ok(self.add(Shape::Union(ids), BTreeMap::new()))
    }

    fn read_record(
        &mut self,
        mut object: Members<'_>,
        namespace: &str,
        is_error: bool,
    ) -> Result<TypeId, InvalidSchema> {
        let named = read_named("record", &mut object, namespace)?;
        let (namespace, record) = (named.name.namespace.clone(), named.name.full());
        let Some(Json::Array(values)) = object.remove("fields") else {
            return Err(attribute("record", "fields", "an array of fields"));
        };
        // Known before its fields are read, which may refer to it.
        let id = self.define(&named.name)?;
        let mut fields = Fields {
            list: Vec::with_capacity(values.len()),
            by_name: HashMap::with_capacity(values.len()),
        };
        for value in values {
            let field = self.read_field(value, &namespace)?;
            if fields
                .by_name
                .insert(field.name.clone(), fields.list.len())
                .is_some()
            {
                return Err(InvalidSchema::DuplicateField {
                    record,
                    field: field.name,
                });
            }
            fields.list.push(field);
        }
        self.types[id.0] = Type {
            shape: Shape::Record {
                named,
                is_error,
                fields,
            },
            attributes: self.keep(custom(object, false))?,
        };
        Ok(id)
    }

    fn read_field(&mut self, value: Json<'_>, namespace: &str) -> Result<Field, InvalidSchema> {
        let Json::Object(mut object) = value else {
            return Err(attribute("record", "fields", "an array of objects"));
        };
        let Some(Json::String(name)) = object.remove("name") else {
            return Err(attribute("field", "name", "a string"));
        };
        let name = name.into_owned();
        if !is_name(&name) {
            return Err(InvalidSchema::BadName(name));
        }
        let type_ = object
            .remove("type")
            .ok_or_else(|| attribute("field", "type", "a type"))?;
        let type_ = self.read_type(type_, namespace)?;
        let order = match object.remove("order") {
            None => None,
            Some(Json::String(order)) => match order.to_ascii_lowercase().as_str() {
                "ascending" => None,
                "descending" => Some("descending"),
                "ignore" => Some("ignore"),
                _ => {
                    return Err(attribute(
                        "field",
                        "order",
                        "`ascending`, `descending` or `ignore`",
                    ));
                }
            },
            Some(_) => return Err(attribute("field", "order", "a string")),
        };
        Ok(Field {
            name,
            type_,
            doc: read_doc(&mut object),
            default: object
                .remove("default")
                .map(|default| self.keep_one(default))
                .transpose()?,
            order,
            aliases: read_strings("field", "aliases", &mut object)?.unwrap_or_default(),
            attributes: self.keep(object)?,
        })
    }

    fn read_enum(
        &mut self,
        mut object: Members<'_>,
        namespace: &str,
    ) -> Result<TypeId, InvalidSchema> {
        let named = read_named("enum", &mut object, namespace)?;
        let symbols = read_strings("enum", "symbols", &mut object)?
            .ok_or_else(|| attribute("enum", "symbols", "an array of names"))?;
        let mut seen = HashSet::with_capacity(symbols.len());
        for symbol in &symbols {
            if !is_name(symbol) {
                return Err(InvalidSchema::BadName(symbol.clone()));
            }
            if !seen.insert(symbol.as_str()) {
                return Err(InvalidSchema::DuplicateSymbol {
                    name: named.name.full(),
                    symbol: symbol.clone(),
                });
            }
        }
        let default = match object.remove("default") {
            None => None,
            Some(Json::String(default)) if seen.contains(&*default) => Some(default.into_owned()),
            Some(default) => {
                return Err(InvalidSchema::BadEnumDefault {
                    name: named.name.full(),
                    default: Value::from(default).to_string(),
                });
            }
        };
        let id = self.define(&named.name)?;
        self.types[id.0] = Type {
            shape: Shape::Enum {
                named,
                symbols,
                default,
            },
            attributes: self.keep(custom(object, true))?,
        };
        Ok(id)
    }

    fn read_fixed(
        &mut self,
        mut object: Members<'_>,
        namespace: &str,
    ) -> Result<TypeId, InvalidSchema> {
        let named = read_named("fixed", &mut object, namespace)?;
        let size = object
            .remove("size")
            .and_then(|size| match size {
                Json::Number(size) => i32::try_from(size.as_i64()?).ok(),
                _ => None,
            })
            .filter(|size| *size >= 0)
            .ok_or_else(|| attribute("fixed", "size", "a number of bytes"))?;
        let id = self.define(&named.name)?;
        self.types[id.0] = Type {
            shape: Shape::Fixed { named, size },
            attributes: self.keep(custom(object, false))?,
        };
        Ok(id)
    }

    /// Takes the name. Until the caller has read the type and puts it in place, an empty record
    /// stands there, which already has the name for those who refer to it.
    fn define(&mut self, name: &FullName) -> Result<TypeId, InvalidSchema> {
        if self.names.contains_key(name) {
            return Err(InvalidSchema::DefinedTwice(name.full()));
        }
        let named = Named {
            name: name.clone(),
            aliases: Vec::new(),
            doc: None,
        };
        let placeholder = Shape::Record {
            named,
            is_error: false,
            fields: Fields::default(),
        };
        let id = self.add(placeholder, BTreeMap::new());
        self.names.insert(name.clone(), id);
        Ok(id)
    }

    fn keep<'t>(
        &mut self,
        members: impl IntoIterator<Item = (Cow<'t, str>, Json<'t>)>,
    ) -> Result<BTreeMap<String, Value>, InvalidSchema> {
        members
            .into_iter()
            .map(|(name, value)| Ok((name.into_owned(), self.keep_one(value)?)))
            .collect()
    }

    /// Defaults and attributes are kept as they are, whose objects take more than their text.
    fn keep_one(&mut self, value: Json<'_>) -> Result<Value, InvalidSchema> {
        const MOST: usize = 40_000;
        self.objects += value.objects();
        if self.objects > MOST {
            return Err(InvalidSchema::TooManyObjects { most: MOST });
        }
        Ok(value.into())
    }

    fn add(&mut self, shape: Shape, attributes: BTreeMap<String, Value>) -> TypeId {
        self.types.push(Type { shape, attributes });
        TypeId(self.types.len() - 1)
    }
}
