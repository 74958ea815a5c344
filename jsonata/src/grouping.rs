//! `{key: value}`: an object of its input, whose values are put together by their keys.

use indexmap::{IndexMap, map::Entry};

use crate::{
    ast::{Name, Node},
    run::{Evaluated, Run},
    value::{Fields, Frame, Tuple, Value},
};

impl Run<'_> {
    /// `{key: value}`: the values of each key together. Of nothing, one object.
    pub fn group(&mut self, pairs: &[(Node, Node)], input: &Value, frame: Frame) -> Evaluated {
        enum Gathered {
            Values(Value),
            Tuples(Vec<Tuple>),
        }
        let mut groups: IndexMap<Name, (usize, Gathered)> = IndexMap::new();
        let tuples = match input {
            Value::Tuples(all) => Some(&all.tuples),
            _ => None,
        };
        let nothing = [Value::Undefined];
        let items = match input.items() {
            [] => &nothing[..],
            items => items,
        };
        let length = tuples.map_or(items.len(), |tuples| tuples.len());
        for index in 0..length {
            for (pair, (key, _)) in pairs.iter().enumerate() {
                let key = match tuples {
                    Some(tuples) => {
                        let tuple = &tuples[index];
                        self.with_tuple(tuple, frame, |run, frame| {
                            run.evaluate(key, &tuple.at, frame)
                        })?
                    }
                    None => self.evaluate(key, &items[index], frame)?,
                };
                let key = match key {
                    Value::Text(key) => key,
                    Value::Undefined => continue,
                    other => {
                        let what = other.type_name();
                        return Err(self.failed(format!("a key is no string, but {what}")));
                    }
                };
                self.field(&key)?;
                match groups.entry(key) {
                    Entry::Vacant(entry) => {
                        let gathered = match tuples {
                            Some(tuples) => {
                                self.tuple(&tuples[index])?;
                                Gathered::Tuples(vec![tuples[index].clone()])
                            }
                            None => Gathered::Values(items[index].clone()),
                        };
                        entry.insert((pair, gathered));
                    }
                    Entry::Occupied(mut entry) => {
                        let (of, gathered) = entry.get_mut();
                        if *of != pair {
                            let key = entry.key();
                            return Err(self.failed(format!("two keys are \"{key:.100}\"")));
                        }
                        match (gathered, tuples) {
                            (Gathered::Tuples(gathered), Some(tuples)) => {
                                self.tuple(&tuples[index])?;
                                gathered.push(tuples[index].clone());
                            }
                            (Gathered::Values(gathered), _) => {
                                let before = std::mem::replace(gathered, Value::Undefined);
                                *gathered = self.append(before, items[index].clone())?;
                            }
                            (Gathered::Tuples(_), None) => {}
                        }
                    }
                }
            }
        }
        let mut fields = Fields::new();
        for (key, (pair, gathered)) in groups {
            let (_, value) = &pairs[pair];
            let value = match gathered {
                Gathered::Values(context) => self.evaluate(value, &context, frame)?,
                Gathered::Tuples(tuples) => {
                    let tuple = self.reduced(tuples)?;
                    self.with_tuple(&tuple, frame, |run, frame| {
                        run.evaluate(value, &tuple.at, frame)
                    })?
                }
            };
            let value = self.plain(value)?;
            if !value.is_undefined() {
                self.field(&key)?;
                fields.insert(key, value);
            }
        }
        self.object(fields)
    }

    /// One tuple of what many carry.
    fn reduced(&mut self, tuples: Vec<Tuple>) -> Evaluated<Tuple> {
        let mut tuples = tuples.into_iter();
        let Some(mut first) = tuples.next() else {
            let (at, bound) = (Value::Undefined, Vec::new());
            return Ok(Tuple { at, bound });
        };
        for tuple in tuples {
            first.at = self.append(first.at, tuple.at)?;
            for (name, value) in tuple.bound {
                let known = first.bound.iter_mut().find(|(known, _)| *known == name);
                match known {
                    Some((_, known)) => {
                        let before = std::mem::replace(known, Value::Undefined);
                        *known = self.append(before, value)?;
                    }
                    None => first.bound.push((name, value)),
                }
            }
        }
        Ok(first)
    }
}
