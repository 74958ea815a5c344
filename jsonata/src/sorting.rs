//! `^(key)`: values in the order of their keys, which are evaluated once for each.

use std::cmp::Ordering;

use crate::{
    ast::Term,
    run::{Evaluated, Run},
    value::{Array, Frame, Tuple, Value},
};

impl Run<'_> {
    pub fn sort_values(&mut self, terms: &[Term], input: &Value, frame: Frame) -> Evaluated {
        let mut keyed = Vec::new();
        for item in input.items() {
            self.room(1 + terms.len())?;
            let keys = terms.iter();
            let keys: Evaluated<Vec<_>> = keys
                .map(|term| self.evaluate(&term.by, item, frame))
                .collect();
            keyed.push((keys?, item.clone()));
        }
        let sorted = self.sort_keyed(terms, keyed)?;
        self.sealed(Array {
            items: sorted,
            sequence: matches!(input, Value::Array(array) if array.sequence),
            ..Array::default()
        })
    }

    pub fn sort_tuples(
        &mut self,
        terms: &[Term],
        tuples: Vec<Tuple>,
        frame: Frame,
    ) -> Evaluated<Vec<Tuple>> {
        let mut keyed = Vec::new();
        for tuple in tuples {
            self.room(1 + terms.len())?;
            let keys: Vec<Value> = self.with_tuple(&tuple, frame, |run, frame| {
                let keys = terms.iter();
                keys.map(|term| run.evaluate(&term.by, &tuple.at, frame))
                    .collect()
            })?;
            keyed.push((keys, tuple));
        }
        self.sort_keyed(terms, keyed)
    }

    fn sort_keyed<T>(
        &mut self,
        terms: &[Term],
        mut keyed: Vec<(Vec<Value>, T)>,
    ) -> Evaluated<Vec<T>> {
        for (index, _) in terms.iter().enumerate() {
            let mut kinds = keyed.iter().map(|(keys, _)| &keys[index]);
            let texts = kinds.clone().any(|key| matches!(key, Value::Text(_)));
            let numbers = kinds.clone().any(|key| matches!(key, Value::Number(_)));
            let other = kinds
                .any(|key| !matches!(key, Value::Text(_) | Value::Number(_) | Value::Undefined));
            if other || (texts && numbers) {
                return Err(self.failed("values are sorted by numbers, or by texts"));
            }
        }
        // Paid for beforehand: a comparison must not fail, and each text is read at each level.
        let letters = keyed
            .iter()
            .flat_map(|(keys, _)| keys)
            .map(|key| match key {
                Value::Text(text) => 1 + text.len() as u64 / 64,
                _ => 1,
            });
        let letters = letters.sum();
        self.budget.sort(keyed.len(), letters)?;
        keyed.sort_by(|(left, _), (right, _)| {
            let keys = left.iter().zip(right).zip(terms);
            let orders = keys.map(|((left, right), term)| match (left, right) {
                (Value::Undefined, Value::Undefined) => Ordering::Equal,
                (Value::Undefined, _) => Ordering::Greater,
                (_, Value::Undefined) => Ordering::Less,
                (left, right) => {
                    let order = match (left, right) {
                        (Value::Number(left), Value::Number(right)) => left.total_cmp(right),
                        (Value::Text(left), Value::Text(right)) => left.cmp(right),
                        _ => Ordering::Equal,
                    };
                    match term.descending {
                        true => order.reverse(),
                        false => order,
                    }
                }
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
        Ok(keyed.into_iter().map(|(_, value)| value).collect())
    }
}
