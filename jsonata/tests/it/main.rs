#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod bounds;
mod language;
mod meaning;
mod random;

use jsonata::{Data, Expression, Failure};
use serde_json::{Value as Json, json};

fn data(json: &Json) -> Data {
    match json {
        Json::Null => Data::Null,
        Json::Bool(bool) => Data::Bool(*bool),
        Json::Number(number) => Data::Number(number.as_f64().unwrap()),
        Json::String(text) => Data::Text(text.clone()),
        Json::Array(items) => Data::Array(items.iter().map(data).collect()),
        Json::Object(fields) => {
            let fields = fields.iter();
            Data::Object(
                fields
                    .map(|(name, value)| (name.clone(), data(value)))
                    .collect(),
            )
        }
    }
}

fn json_of(data: &Data) -> Json {
    match data {
        Data::Null => Json::Null,
        Data::Bool(bool) => json!(bool),
        Data::Number(number) if number.fract() == 0.0 => json!(*number as i64),
        Data::Number(number) => json!(number),
        Data::Text(text) => json!(text),
        Data::Array(items) => items.iter().map(json_of).collect(),
        Data::Object(fields) => {
            let fields = fields.iter();
            Json::Object(
                fields
                    .map(|(name, value)| (name.clone(), json_of(value)))
                    .collect(),
            )
        }
    }
}

fn order() -> Json {
    json!({
        "customer": { "name": "Ada Lovelace", "id": 7 },
        "lines": [
            { "article": "cage", "price": 12.5, "count": 2, "tags": ["bird"] },
            { "article": "millet", "price": 3, "count": 10, "tags": ["food", "bird"] },
            { "article": "bowl", "price": 4.25, "count": 1, "tags": [] }
        ],
        "note": null
    })
}

fn evaluated(expression: &str) -> Result<Option<Data>, Failure> {
    let expression = Expression::parse(expression).unwrap();
    expression.evaluate(&data(&order()))
}
