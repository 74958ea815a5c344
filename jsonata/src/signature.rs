//! `<s-n?:s>`: what arguments a function takes, where the context stands in for the first, and
//! what is made an array.

use crate::{
    run::{Evaluated, Run},
    value::Value,
};

#[derive(Debug)]
pub(crate) struct Signature {
    parameters: Vec<Parameter>,
}

#[derive(Debug, Default)]
struct Parameter {
    /// Letters of the types that fit: `s`, `n`, `b`, `l` (null), `a`, `o`, `f`.
    types: String,
    is_array: bool,
    items: Option<char>,
    context: bool,
    optional: bool,
    repeated: bool,
}

/// More than anyone writes; each is tried in turn.
const MOST_PARAMETERS: usize = 32;

impl Signature {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut rest = text.trim().chars();
        while let Some(letter) = rest.next() {
            let types = match letter {
                ':' => break,
                's' | 'n' | 'b' | 'l' | 'o' | 'f' => letter.to_string(),
                'j' => "asnblo".to_owned(),
                // What is no array is made one.
                'x' | 'a' => "asnblof".to_owned(),
                '(' => {
                    let choice: String = rest.by_ref().take_while(|c| *c != ')').collect();
                    if choice.contains('<') {
                        return Err("a choice in a signature cannot be of arrays of a type".into());
                    }
                    choice
                }
                '-' | '?' | '+' => {
                    let Some(last) = parameters.last_mut() else {
                        return Err("a signature begins with a modifier".into());
                    };
                    match letter {
                        '-' => last.context = true,
                        '?' => last.optional = true,
                        _ => last.repeated = true,
                    }
                    continue;
                }
                '<' => {
                    let mut open = 1;
                    let inner: String = rest
                        .by_ref()
                        .take_while(|c| {
                            open += match c {
                                '<' => 1,
                                '>' => -1,
                                _ => 0,
                            };
                            open > 0
                        })
                        .collect();
                    match parameters.last_mut() {
                        Some(last) if last.is_array => last.items = inner.chars().next(),
                        Some(last) if last.types == "f" => {}
                        _ => return Err("only arrays and functions have a type within".into()),
                    }
                    continue;
                }
                ' ' => continue,
                other => return Err(format!("`{other}` is no type of a signature")),
            };
            if parameters.len() == MOST_PARAMETERS {
                return Err(format!(
                    "a signature has more than {MOST_PARAMETERS} parameters"
                ));
            }
            parameters.push(Parameter {
                is_array: letter == 'a',
                types,
                ..Parameter::default()
            });
        }
        Ok(Self { parameters })
    }

    /// Those that have to be given.
    pub fn arity(&self) -> usize {
        let parameters = self.parameters.iter();
        parameters.filter(|parameter| !parameter.optional).count()
    }

    /// The arguments as the function takes them.
    pub fn fit(&self, run: &mut Run, arguments: Vec<Value>, context: &Value) -> Fitted {
        let tries = (1 + arguments.len() as u64).pow(2) / 16;
        run.budget
            .steps((1 + tries) * self.parameters.len() as u64)?;
        let counts = self.counts(&arguments);
        let Some(counts) = counts else {
            let at = 1 + self.first_wrong(&arguments);
            return Err(run.failed(format!("argument {at} has the wrong type")));
        };
        let context = match context {
            Value::Array(array) if array.outer => &array.items[0],
            other => other,
        };
        let mut fitted = Vec::with_capacity(self.parameters.len());
        let mut given = arguments.into_iter();
        for (parameter, count) in self.parameters.iter().zip(counts) {
            if count == 0 {
                fitted.push(match parameter.context {
                    true if parameter.takes(context) => context.clone(),
                    true => return Err(run.failed("the context has the wrong type")),
                    false => given.next().unwrap_or(Value::Undefined),
                });
                continue;
            }
            for argument in given.by_ref().take(count) {
                fitted.push(parameter.fit(run, argument)?);
            }
        }
        fitted.extend(given);
        Ok(fitted)
    }

    /// How many arguments each parameter takes, as many as it can: as a regular expression over
    /// the letters of their types would match.
    fn counts(&self, arguments: &[Value]) -> Option<Vec<usize>> {
        // From the last parameter back: from which argument on the rest fits.
        let (rows, columns) = (self.parameters.len(), arguments.len());
        let mut fits = vec![vec![false; columns + 1]; rows + 1];
        fits[rows][columns] = true;
        for row in (0..rows).rev() {
            let parameter = &self.parameters[row];
            for from in (0..=columns).rev() {
                fits[row][from] = parameter
                    .counts(&arguments[from..])
                    .any(|count| fits[row + 1][from + count]);
            }
        }
        let mut counts = Vec::with_capacity(rows);
        let mut from = 0;
        for (row, parameter) in self.parameters.iter().enumerate() {
            let mut possible = parameter.counts(&arguments[from..]);
            let count = possible.find(|count| fits[row + 1][from + count])?;
            counts.push(count);
            from += count;
        }
        (from == columns).then_some(counts)
    }

    fn first_wrong(&self, arguments: &[Value]) -> usize {
        let pairs = self.parameters.iter().zip(arguments);
        let fitting = pairs.take_while(|(parameter, argument)| parameter.takes(argument));
        fitting.count()
    }
}

type Fitted = Evaluated<Vec<Value>>;

impl Parameter {
    /// Whatever is missing fits every type.
    fn takes(&self, value: &Value) -> bool {
        value.is_undefined() || self.types.contains(letter(value))
    }

    /// How many of these it can take, most first.
    fn counts(&self, arguments: &[Value]) -> impl Iterator<Item = usize> + use<> {
        let fitting = arguments.iter().take_while(|value| self.takes(value));
        let most = match self.repeated {
            true => fitting.count(),
            false => fitting.take(1).count(),
        };
        let least = usize::from(!(self.optional || self.context));
        (least..=most).rev()
    }

    fn fit(&self, run: &mut Run, argument: Value) -> Evaluated<Value> {
        if !self.is_array || argument.is_undefined() {
            return Ok(argument);
        }
        if let Some(items) = self.items {
            run.budget.steps(argument.items().len() as u64)?;
            let of_type = |value: &Value| letter(value) == items;
            if !argument.items().iter().all(of_type) {
                return Err(run.failed("an array has items of the wrong type"));
            }
        }
        match argument {
            Value::Array(array) => Ok(Value::Array(array)),
            other => run.array(vec![other]),
        }
    }
}

fn letter(value: &Value) -> char {
    match value {
        Value::Undefined => 'm',
        Value::Null => 'l',
        Value::Bool(_) => 'b',
        Value::Number(_) => 'n',
        Value::Text(_) => 's',
        Value::Array(_) | Value::Tuples(_) => 'a',
        Value::Object(_) => 'o',
        Value::Native(_) | Value::Function(_) => 'f',
    }
}
