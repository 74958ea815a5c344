//! Any JSONata expression: refused, or it ends within its bounds, twice in the same way.
#![no_main]

use jsonata::{Data, Expression};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(expression) = Expression::parse(text) else {
        return;
    };
    let texts = |texts: &[&str]| texts.iter().map(|it| Data::Text((*it).into())).collect();
    let event = Data::Object(vec![
        ("name".into(), Data::Text("Ada".into())),
        ("tags".into(), Data::Array(texts(&["a", "b"]))),
        ("born".into(), Data::Number(1815.0)),
        ("none".into(), Data::Null),
    ]);
    let (first, spent) = expression.measure(&event);
    let (second, again) = expression.measure(&event);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert_eq!(spent, again);
});
