//! Expressions that nobody would write: whatever they do, they end within the bounds, and twice
//! the same.

use jsonata::{Expression, MOST_BYTES, MOST_STEPS};
use proptest::{prelude::*, string::string_regex};

use crate::{data, order};

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("lines".to_owned()),
        Just("customer".to_owned()),
        Just("$".to_owned()),
        Just("$$".to_owned()),
        Just("$x".to_owned()),
        Just("*".to_owned()),
        Just("**".to_owned()),
        Just("lines.%".to_owned()),
        Just("lines#$i".to_owned()),
        Just("lines@$x.tags".to_owned()),
        Just("[1..99]".to_owned()),
        Just("'aé🐦'".to_owned()),
        Just("-1.5".to_owned()),
        Just("1e300".to_owned()),
        Just("null".to_owned()),
        Just("nothing".to_owned()),
        Just("/[a-c]+|x/".to_owned()),
        Just("function($x, $y) { $x }".to_owned()),
        Just("$string".to_owned()),
    ];
    leaf.prop_recursive(6, 48, 3, |inner| {
        let operators = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("&"),
            Just("="),
            Just("<"),
            Just("and"),
            Just("or"),
            Just("in"),
            Just("."),
            Just("~>"),
            Just("??"),
            Just("?:"),
        ];
        let functions = prop_oneof![
            Just("$map"),
            Just("$filter"),
            Just("$reduce"),
            Just("$sort"),
            Just("$each"),
            Just("$sift"),
            Just("$string"),
            Just("$append"),
            Just("$merge"),
            Just("$spread"),
            Just("$zip"),
            Just("$distinct"),
            Just("$pad"),
            Just("$replace"),
            Just("$split"),
            Just("$match"),
            Just("$contains"),
            Just("$join"),
            Just("$substring"),
            Just("$keys"),
            Just("$lookup"),
            Just("$round"),
            Just("$number"),
            Just("$power"),
            Just("$type"),
            Just("$reverse"),
            Just("$single"),
            Just("$formatBase"),
            Just("$fromMillis"),
            Just("$toMillis"),
            Just("$substringAfter"),
            Just("$trim"),
            Just("$f"),
        ];
        let few = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            (inner.clone(), operators, inner.clone())
                .prop_map(|(l, o, r)| format!("({l} {o} {r})")),
            (functions, few.clone()).prop_map(|(f, a)| format!("{f}({})", a.join(", "))),
            few.clone()
                .prop_map(|items| format!("[{}]", items.join(", "))),
            few.prop_map(|parts| format!("({})", parts.join("; "))),
            (inner.clone(), inner.clone()).prop_map(|(of, by)| format!("({of})[{by}]")),
            (inner.clone(), inner.clone()).prop_map(|(of, by)| format!("({of})^({by})")),
            (inner.clone(), inner.clone()).prop_map(|(of, v)| format!("({of}){{$string($): {v}}}")),
            (inner.clone(), inner.clone())
                .prop_map(|(of, v)| format!("({of}).{{'a': {v}, 'b': $}}")),
            (inner.clone(), inner.clone())
                .prop_map(|(of, v)| format!("({of} ~> |$|{{'k': {v}}}|)")),
            inner
                .clone()
                .prop_map(|body| format!("($f := function($x) {{ {body} }}; $f($))")),
            inner
                .clone()
                .prop_map(|value| format!("($x := {value}; $f := $append(?, $x); $f($x))")),
            (inner.clone(), inner).prop_map(|(c, t)| format!("({c} ? {t})")),
        ]
    })
}

fn ends_within_the_bounds(text: &str) {
    let Ok(read) = Expression::parse(text) else {
        return;
    };
    let event = data(&order());
    let (result, spent) = read.measure(&event);
    assert!(
        spent.steps <= MOST_STEPS && spent.bytes <= MOST_BYTES,
        "{text}"
    );
    assert_eq!(
        format!("{:?}", read.measure(&event)),
        format!("{:?}", (result, spent)),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_expressions_end(text in expression()) {
        ends_within_the_bounds(&text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in string_regex("[-a$%*.()\\[\\]{}|~><=!?:;,@#^&'\"/\\\\`0-9 eé\n]{0,40}").unwrap()) {
        ends_within_the_bounds(&text);
    }

    #[test]
    fn any_pattern_is_read_or_refused(pattern in string_regex("[-ab$*+?.()\\[\\]{}|^\\\\dwsb&~0-9]{1,20}").unwrap()) {
        ends_within_the_bounds(&format!("$replace('ab aab12', /{pattern}/, '$1-')"));
    }
}
