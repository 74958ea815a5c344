//! JSONata for expressions that others have written: whatever they are, an evaluation ends after
//! so many steps, in so much memory and at such a depth, with the same result on every machine
//! and under every load. Nothing in it knows the time or chance.
//!
//! An expression is read once ([`Expression::parse`]: `lexer`, `parser`, `paths`) and evaluated
//! for each event (`evaluate`, `steps`, `call`, `functions`), where everything is paid for before
//! it is done (`budget`).
//!
//! ```
//! use jsonata::{Data, Expression};
//!
//! let expression = Expression::parse("$uppercase(name) & '!'")?;
//! let event = Data::Object(vec![("name".into(), Data::Text("Ada".into()))]);
//! assert_eq!(expression.evaluate(&event)?, Some(Data::Text("ADA!".into())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use run::{Evaluated, Run};
use value::{Array, Fields, Value};

pub use budget::{Bound, DEEPEST, DEEPEST_VALUE, MOST_BYTES, MOST_STEPS};

mod ast;
mod budget;
mod call;
mod evaluate;
mod functions;
mod gather;
mod grouping;
mod lexer;
mod number;
mod operators;
mod parser;
mod paths;
mod pattern;
mod run;
mod signature;
mod sorting;
mod steps;
mod value;

/// Raised whenever an expression has another result, or reaches a bound where it did not. What was
/// computed with another one may have to be computed again.
pub const MEANING: u32 = 1;

/// Bytes of an expression.
pub const LONGEST_EXPRESSION: usize = 64 * 1024;

/// What goes in and comes out. The fields of an object keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Data>),
    Object(Vec<(String, Data)>),
}

/// An expression that is well-formed; cheap to clone, and shared between threads.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Read>);

#[derive(Debug)]
struct Read {
    root: ast::Node,
    labels: Vec<ast::Name>,
}

/// The text is no expression, or one that is not for rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at byte {position})")]
pub struct SyntaxError {
    pub position: usize,
    pub reason: String,
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("it {0}")]
    Bound(Bound),
    #[error("{0}")]
    Failed(String),
}

/// What an evaluation took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub steps: u64,
    pub bytes: usize,
}

impl Expression {
    /// # Errors
    /// The text is not well-formed, longer than [`LONGEST_EXPRESSION`], or has a function that
    /// does not give the same for ever.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > LONGEST_EXPRESSION {
            return Err(SyntaxError {
                position: LONGEST_EXPRESSION,
                reason: format!("it is longer than {LONGEST_EXPRESSION} bytes"),
            });
        }
        let (root, labels) = parser::parse(text)?;
        Ok(Self(Arc::new(Read { root, labels })))
    }

    /// What the expression makes of a value; nothing if it has no result.
    ///
    /// # Errors
    /// It fails, or reaches a [`Bound`].
    pub fn evaluate(&self, input: &Data) -> Result<Option<Data>, Failure> {
        self.measure(input).0
    }

    /// The same, and what it took.
    pub fn measure(&self, input: &Data) -> (Result<Option<Data>, Failure>, Spent) {
        let mut run = Run::new(&self.0.labels);
        let result = run.whole(&self.0.root, input);
        let (steps, bytes) = run.budget.spent();
        (result, Spent { steps, bytes })
    }
}

impl Run<'_> {
    fn whole(&mut self, root: &ast::Node, input: &Data) -> Evaluated<Option<Data>> {
        let mut input = self.taken(input)?;
        if let Value::Array(_) = input {
            self.item()?;
            let items = vec![input];
            let (sequence, outer) = (true, true);
            input = self.sealed(Array {
                items,
                sequence,
                outer,
                ..Array::default()
            })?;
        }
        self.bind(0, &"$".into(), self.root_of(&input))?;
        let result = self.evaluate(root, &input, 0)?;
        let result = self.plain(result)?;
        self.given(&result)
    }

    fn root_of(&self, input: &Value) -> Value {
        match input {
            Value::Array(array) if array.outer => array.items[0].clone(),
            other => other.clone(),
        }
    }

    fn taken(&mut self, data: &Data) -> Evaluated {
        Ok(match data {
            Data::Null => Value::Null,
            Data::Bool(bool) => Value::Bool(*bool),
            Data::Number(number) => self.number(*number)?,
            Data::Text(text) => self.text(text)?,
            Data::Array(items) => self.within(|run| {
                run.room(items.len())?;
                let items = items.iter().map(|item| run.taken(item));
                let items: Evaluated<_> = items.collect();
                run.list(items?)
            })?,
            Data::Object(object) => self.within(|run| {
                let mut fields = Fields::with_capacity(object.len());
                for (name, value) in object {
                    run.field(name)?;
                    run.letters(name.len())?;
                    fields.insert(name.as_str().into(), run.taken(value)?);
                }
                run.object(fields)
            })?,
        })
    }

    /// What is shared within a value is there as often as it occurs, and paid for as often.
    fn given(&mut self, value: &Value) -> Evaluated<Option<Data>> {
        Ok(Some(match value {
            Value::Undefined => return Ok(None),
            Value::Null => Data::Null,
            Value::Bool(bool) => Data::Bool(*bool),
            Value::Number(number) => Data::Number(*number),
            Value::Text(text) => {
                self.letters(text.len())?;
                Data::Text(text.to_string())
            }
            Value::Array(array) => {
                let mut items = Vec::new();
                for item in &array.items {
                    self.item()?;
                    items.push(self.given(item)?.unwrap_or(Data::Null));
                }
                Data::Array(items)
            }
            Value::Object(object) => {
                let mut fields = Vec::new();
                for (name, value) in &object.fields {
                    self.field(name)?;
                    self.letters(name.len())?;
                    if let Some(value) = self.given(value)? {
                        fields.push((name.to_string(), value));
                    }
                }
                Data::Object(fields)
            }
            Value::Native(_) | Value::Function(_) | Value::Tuples(_) => {
                return Err(self.failed("a function is no result"));
            }
        }))
    }
}
