//! Other people's rules: JSONATA expressions. The crate `jsonata` bounds them; here they take
//! events and give them.

use jsonata::{Data, Failure};
use serde_json::{Value as Json, json};

use super::{reason::Reason, value::Value};

/// An expression that was read and found to be well-formed.
#[derive(Clone, Debug)]
pub(super) struct Expression(jsonata::Expression);

impl Expression {
    /// # Errors
    /// It is not well-formed, too long, or has a function that does not give the same for ever.
    pub fn compile(text: &str) -> Result<Self, String> {
        let read = jsonata::Expression::parse(text);
        read.map(Self).map_err(|error| error.to_string())
    }

    /// What the expression makes of an event, the same on every machine.
    ///
    /// # Errors
    /// It fails, has no result, or reaches one of its bounds.
    pub fn evaluate(&self, event: &Value) -> Result<Json, Reason> {
        match self.0.evaluate(&given(event)) {
            Ok(Some(result)) => Ok(taken(result)),
            Ok(None) => Err(Reason::plain("it has no result")),
            Err(bound @ Failure::Bound(_)) => Err(Reason::plain(bound.to_string())),
            Err(Failure::Failed(text)) => Err(Reason::Opaque(text)),
        }
    }
}

/// An event as the expression sees it: fields in the order of the schema, decimals as text, bytes
/// as Latin-1 text.
fn given(value: &Value) -> Data {
    match value {
        Value::Array(items) => Data::Array(items.iter().map(given).collect()),
        Value::Map(entries) => {
            let entries = entries.iter();
            Data::Object(
                entries
                    .map(|(key, value)| (key.clone(), given(value)))
                    .collect(),
            )
        }
        Value::Record(record) => {
            let fields = record.fields.iter();
            let fields = fields.map(|(name, value)| (name.to_string(), given(value)));
            Data::Object(fields.collect())
        }
        plain => match plain.to_json() {
            Json::Bool(bool) => Data::Bool(bool),
            Json::Number(number) => Data::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Data::Text(text),
            Json::Null | Json::Array(_) | Json::Object(_) => Data::Null,
        },
    }
}

/// Whole numbers up to 2⁵³ are integers again.
fn taken(data: Data) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match data {
        Data::Null => Json::Null,
        Data::Bool(bool) => json!(bool),
        Data::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            json!(number as i64)
        }
        Data::Number(number) => json!(number),
        Data::Text(text) => json!(text),
        Data::Array(items) => items.into_iter().map(taken).collect(),
        Data::Object(fields) => {
            let fields = fields.into_iter();
            Json::Object(fields.map(|(name, value)| (name, taken(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::value::Record, *};

    fn evaluated(expression: &str) -> Result<Json, String> {
        let texts = |texts: &[&str]| texts.iter().copied().map(Value::text).collect();
        let event = Value::Record(Record {
            name: "Person".into(),
            fields: vec![
                ("name".into(), Value::text("Ada")),
                ("tags".into(), Value::Array(texts(&["a", "b"]))),
                ("born".into(), Value::Int(1815)),
                ("lost".into(), Value::Double(f64::INFINITY)),
            ],
        });
        let made = Expression::compile(expression)?.evaluate(&event);
        made.map_err(Reason::told)
    }

    #[test]
    fn an_expression_makes_another_event() {
        let made = evaluated(r#"{ "title": $uppercase(name), "tags": tags[$ != "a"][] }"#);
        assert_eq!(made, Ok(json!({ "title": "ADA", "tags": ["b"] })));
        assert_eq!(
            evaluated("$merge([$, {'name': 'Bob'}]).name"),
            Ok(json!("Bob"))
        );
        assert_eq!(evaluated("born + 1"), Ok(json!(1816)));
        assert_eq!(evaluated("born / 2"), Ok(json!(907.5)));
        assert_eq!(evaluated("lost"), Ok(json!("Infinity")));
    }

    #[test]
    fn fields_have_the_order_of_the_schema() {
        let keys = json!(["name", "tags", "born", "lost"]);
        assert_eq!(evaluated("$keys($)"), Ok(keys));
    }

    #[test]
    fn what_does_not_end_is_an_error_of_the_event() {
        let endless = "($f := function($n) { $f($n + 1) }; $f(0))";
        let steps = "it takes more than 1000000 steps";
        assert_eq!(evaluated(endless), Err(steps.into()));
        assert_eq!(evaluated("name"), Ok(json!("Ada")));
    }

    #[test]
    fn what_is_different_each_time_is_refused_at_once() {
        for expression in ["$now()", "$millis()", "$random()", "$eval('1')"] {
            let refused = Expression::compile(expression).unwrap_err();
            assert!(refused.contains("is not for rules"), "{refused}");
        }
        assert_eq!(evaluated("nothing"), Err("it has no result".into()));
    }
}
