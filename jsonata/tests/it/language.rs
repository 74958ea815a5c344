//! The language, feature by feature, as the reference implementation has it.

use jsonata::{Expression, Failure};
use serde_json::{Value as Json, json};

use crate::{evaluated, json_of};

fn gives(expression: &str, expected: &Json) {
    let result = evaluated(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let result = result.as_ref().map(json_of);
    assert_eq!(result.as_ref(), Some(expected), "{expression}");
}

#[test]
fn a_path_maps_filters_and_flattens() {
    gives("customer.name", &json!("Ada Lovelace"));
    gives("lines.article", &json!(["cage", "millet", "bowl"]));
    gives("lines.tags", &json!(["bird", "food", "bird"]));
    gives("lines[price > 4].article", &json!(["cage", "bowl"]));
    gives("lines[0].article", &json!("cage"));
    gives("lines[-1].article", &json!("bowl"));
    gives("lines[[0..1]].count", &json!([2, 10]));
    gives("lines[article = 'bowl'].price[]", &json!([4.25]));
    gives("**.id", &json!(7));
    gives("customer.*", &json!([7, "Ada Lovelace"]));
    gives("lines.(price * count)", &json!([25, 30, 4.25]));
    gives(
        "lines.[article, count]",
        &json!([["cage", 2], ["millet", 10], ["bowl", 1]]),
    );
    assert_eq!(evaluated("nobody.knows"), Ok(None));
}

#[test]
fn a_path_carries_positions_focus_and_parents() {
    gives(
        "lines#$i[$i > 0].(article & $i)",
        &json!(["millet1", "bowl2"]),
    );
    gives(
        "lines@$l.customer.(name & $l.count)[0]",
        &json!("Ada Lovelace2"),
    );
    gives(
        "lines.tags.(% .article & ':' & $)",
        &json!(["cage:bird", "millet:food", "millet:bird"]),
    );
    gives("lines.tags[$ = 'food'].%.article", &json!("millet"));
}

#[test]
fn objects_are_made_and_grouped() {
    gives(
        "{ 'n': customer.name, 'none': nothing }",
        &json!({ "n": "Ada Lovelace" }),
    );
    gives(
        "lines{ article: price }",
        &json!({ "cage": 12.5, "millet": 3, "bowl": 4.25 }),
    );
    gives(
        "lines{ $string(price > 4): article }",
        &json!({ "true": ["cage", "bowl"], "false": "millet" }),
    );
    gives(
        "($ ~> |customer|{ 'id': 8 }, 'name'|).customer",
        &json!({ "id": 8 }),
    );
}

#[test]
fn values_are_sorted() {
    gives("lines^(price).article", &json!(["millet", "bowl", "cage"]));
    gives(
        "lines^(>count, article).article",
        &json!(["millet", "cage", "bowl"]),
    );
    gives(
        "$sort(lines.count, function($l, $r) { $l < $r })",
        &json!([10, 2, 1]),
    );
    gives("$sort(['b', 'c', 'a'])", &json!(["a", "b", "c"]));
}

#[test]
fn functions_are_values() {
    gives(
        "($twice := function($f) { function($x) { $f($f($x)) } }; $twice(function($x) { $x * 3 })(2))",
        &json!(18),
    );
    gives(
        "($half := $substring(?, 0, 3); $half(customer.name))",
        &json!("Ada"),
    );
    gives("customer.name ~> $uppercase ~> $length", &json!(12));
    gives(
        "($shout := $trim ~> $uppercase; $shout(' a '))",
        &json!("A"),
    );
    gives(
        "$map(lines, function($l, $i) { $l.count + $i })",
        &json!([2, 11, 3]),
    );
    gives(
        "$filter(lines.count, function($c) { $c > 1 })",
        &json!([2, 10]),
    );
    gives(
        "$reduce(lines.count, function($a, $b) { $a + $b })",
        &json!(13),
    );
    gives(
        "$sift(customer, function($v, $k) { $k = 'id' })",
        &json!({ "id": 7 }),
    );
    gives(
        "($sum := function($n) <n:n> { $n <= 0 ? 0 : $n + $sum($n - 1) }; $sum(30))",
        &json!(465),
    );
    gives(
        "($count := function($n, $to) { $n = $to ? $n : $count($n + 1, $to) }; $count(0, 5000))",
        &json!(5000),
    );
}

#[test]
fn texts_and_numbers_become_each_other_exactly() {
    gives("0.1 + 0.2 & ''", &json!("0.3"));
    gives(
        "1e21 & '|' & 1e-7 & '|' & 123456789012345680",
        &json!("1e+21|1e-7|123456789012345680"),
    );
    gives("$number('0x1f') + $number('-2.5e1')", &json!(6));
    gives(
        "$round(2.5) & $round(3.5) & $round(2.345, 2)",
        &json!("242.34"),
    );
    gives(
        "$string({'a': [1, 'x\"\\n', null, true]})",
        &json!("{\"a\":[1,\"x\\\"\\n\",null,true]}"),
    );
    gives("$formatBase(255, 16)", &json!("ff"));
    gives(
        "$fromMillis($toMillis('2026-11-21T23:00:00+01:00'))",
        &json!("2026-11-21T22:00:00.000Z"),
    );
}

#[test]
fn regular_expressions_match_replace_and_split() {
    gives(
        "$match('ABC-12: x', /([A-Z]+)-(\\d+)/).groups",
        &json!(["ABC", "12"]),
    );
    gives(
        "$replace('2026-11-21', /(\\d+)-(\\d+)-(\\d+)/, '$3.$2.$1')",
        &json!("21.11.2026"),
    );
    gives(
        "$replace('a1b2', /\\d/, function($m) { '<' & $m.match & '>' })",
        &json!("a<1>b<2>"),
    );
    gives("$split('a, b;c', /[,;]\\s*/)", &json!(["a", "b", "c"]));
    gives("$contains('Bird', /^bIRD$/i)", &json!(true));
    gives(
        "/b+/('abbc').{ 's': start, 'e': end }",
        &json!({ "s": 1, "e": 3 }),
    );
}

#[test]
fn what_fails_says_why() {
    for (expression, reason) in [
        (
            "1 + 'a'",
            "the right side of an arithmetic operator is no number, but string",
        ),
        ("name(1)", "name (without a $) is no function"),
        ("$nope()", "$nope is no function"),
        ("1 / 0", "a number is out of range"),
        ("$uppercase(1)", "argument 1 has the wrong type"),
        (
            "customer < 1",
            "only numbers and texts are ordered, not object",
        ),
        ("$error('not today')", "not today"),
        ("function($x) { $x }", "a function is no result"),
    ] {
        let failed = Failure::Failed(reason.to_owned());
        assert_eq!(evaluated(expression), Err(failed), "{expression}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (text, reason) in [
        ("", "it ends too early (at byte 0)"),
        ("a b", "a value cannot stand here (at byte 2)"),
        ("(a", "`)` is missing: it ends too early (at byte 2)"),
        ("'a", "a text has no end (at byte 0)"),
        (
            "a := 1",
            "only a $variable can be given a value (at byte 5)",
        ),
        ("%.a", "`%` leads out of the expression (at byte 3)"),
        ("a.1", "a literal is no step of a path (at byte 3)"),
    ] {
        let error = Expression::parse(text).unwrap_err();
        assert_eq!(error.to_string(), reason, "{text}");
    }
}

#[test]
fn what_is_different_each_time_or_not_there_is_refused() {
    for name in ["now", "millis", "random", "shuffle", "eval", "formatNumber"] {
        let error = Expression::parse(&format!("a.${name}()")).unwrap_err();
        assert!(error.reason.contains("is not for rules"), "{error}");
    }
    // A variable of that name is the expression's own.
    gives("($now := 5; $now)", &json!(5));
    gives("(function($random) { $random + 1 })(1)", &json!(2));
}
