//! Whatever an expression does, it ends with the bound that it reached, the same each time, and in
//! so much memory. Each bomb goes off in a process of its own, whose highest memory is read.

use std::{
    env, fs,
    process::{Command, Output},
};

use jsonata::{Bound, Data, Expression, Failure, MOST_STEPS};

const EXPRESSION: &str = "JSONATA_BOMB";
/// For one evaluation; a process without one has a fifth of it.
const MOST_KB: u64 = 64 * 1024;

/// One bomb, if this process was started for it.
#[test]
fn child() {
    let Ok(text) = env::var(EXPRESSION) else {
        return;
    };
    if text == "nothing but memory" {
        let much = vec![1_u8; 100 << 20];
        assert_eq!(much.iter().filter(|byte| **byte == 1).count(), much.len());
        println!("\nresult: ok");
    } else {
        let expression = Expression::parse(&text).unwrap();
        let event = Data::Object(vec![("name".into(), Data::Text("Ada".into()))]);
        match expression.evaluate(&event) {
            Ok(_) => println!("\nresult: ok"),
            Err(failure) => println!("\nresult: {failure}"),
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let highest = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("\n{}", highest.unwrap());
}

/// How it ended, and the most memory that it had, in kB.
fn goes_off(expression: &str) -> (String, u64) {
    let child: Output = Command::new(env::current_exe().unwrap())
        .args([
            "bounds::child",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(EXPRESSION, expression)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    assert!(child.status.success(), "{expression:.200}: {child:?}");
    let memory = line("VmHWM:").unwrap().trim().trim_end_matches(" kB");
    (
        line("result: ").unwrap().to_owned(),
        memory.parse().unwrap(),
    )
}

fn reaches(bound: Bound, bombs: &[&str]) {
    let expected = Failure::Bound(bound).to_string();
    for bomb in bombs {
        let (result, memory) = goes_off(bomb);
        assert_eq!(result, expected, "{bomb:.200}");
        assert!(memory < MOST_KB, "{bomb:.200}: {memory} kB");
    }
}

#[test]
fn the_memory_of_a_child_is_seen() {
    let (_, nothing) = goes_off("1");
    assert!(nothing < MOST_KB / 5, "{nothing} kB");
    let (_, much) = goes_off("nothing but memory");
    assert!(much > MOST_KB, "{much} kB");
}

#[test]
fn loops_end_after_so_many_steps() {
    reaches(
        Bound::Steps,
        &[
            "($f := function($n) { $f($n + 1) }; $f(0))",
            "($f := function() { $f() }; $f())",
            "($f := function($n) { $n < 0 ? 1 : ($x := $n; $g($n + 1)) }; $g := function($n) { $f($n) }; $f(0))",
            "[1..1000].[1..1000].[1..1000]",
            "[1..100000000]",
            "$map([1..99999], function($a) { $map([1..99999], function($b) { $a * $b }) })",
            "$count([1..3000][$count([1..3000][$ > 5]) > 3])",
            "$filter([1..1000], function($a) { $filter([1..1000], function($b) { $a = $b }) })",
            "$distinct([1..100000])",
            "$sort([1..100000], function($a, $b) { $a < $b })",
            "([1..1000] ~> $map(function($i) { $i in [1..1000] }))",
            "($x := [1..1000]; $x@$a.$x@$b.$x@$c.($a + $b + $c))",
            "($x := [1..1000]; $x#$i.$x#$j[$i = $j])",
            "$reduce([1..1000000], function($a, $b) { $a + $b })",
        ],
    );
}

#[test]
fn a_bound_is_reached_at_the_same_place_each_time() {
    for bomb in [
        "$map([1..9999], function($a) { $map([1..9999], function($b) { $a * $b }) })",
        "$reduce([1..60], function($a, $b) { $a & $a }, 'x')",
        "($f := function($n) { 1 + $f($n + 1) }; $f(0))",
        "[1..200000]{ $string($): $ }",
    ] {
        let expression = Expression::parse(bomb).unwrap();
        let once = expression.measure(&Data::Null);
        assert!(once.0.is_err(), "{bomb}");
        assert_eq!(expression.measure(&Data::Null), once, "{bomb}");
    }
}

#[test]
fn recursion_ends_at_a_depth() {
    reaches(
        Bound::Depth,
        &[
            "($f := function($n) { 1 + $f($n + 1) }; $f(0))",
            "($f := function($n) { $map([1], function($x) { [$f($n)] }) }; $f(0))",
            "($f := function($n) { $n.($[$f($n)]) }; $f(1))",
            "($f := function($n) { $n{'a': $f($n)} }; $f(1))",
            "($f := function($n) { [1, 2]^($f($n)) }; $f(0))",
            "($f := function($n) { $ ~> |$|{ 'x': $f($n) }| }; $f(0))",
            "($f := function($n) { $replace('a', /a/, $f) }; $f(0))",
            "($f := function($n) { 5 ~> $f ~> $f }; $f(0))",
            "($f := function($n) { $f($n) ~> $g }; $g := function($n) { $n }; $f(0))",
            "($f := function($n) { $sort([1, 2], $f) }; $f(0))",
            "($y := function($g) { [$g($g)] }; $y($y))",
        ],
    );
}

#[test]
fn values_are_nested_so_deep_only() {
    reaches(
        Bound::ValueDepth,
        &[
            "$reduce([1..5000], function($a, $b) { {'a': $a} }, 1)",
            "$reduce([1..5000], function($a, $b) { [[$a]] }, 1)",
            "($f := function($g) { $f($g ~> $uppercase) }; $f($lowercase))",
            "($f := function($g) { $f($append(?, $g)) }; $f(1))",
            "($f := function($g) { $f([$g].(function($x) { $x })) }; $f(1))",
            "($ ~> |$|{ 'self': $ }|)",
            "($ ~> |**|{ 'self': $ }|)",
        ],
    );
}

#[test]
fn what_doubles_ends_in_memory() {
    reaches(
        Bound::Bytes,
        &[
            "$reduce([1..60], function($a, $b) { $a & $a }, 'x')",
            "($f := function($s) { $f($s & $s) }; $f(name))",
            "$pad('', 1000000000, 'x')",
            "$pad('x', -1e300)",
            "$pad('', 1e9, '🐦🐦')",
            "($x := $pad('', 100000, 'x'); $replace($x, 'x', $x))",
            "($x := $pad('', 1000, 'x'); $replace($x, /x/, $pad('', 100000, 'y')))",
            "$join([1..10000].$string(), $pad('', 100000, 'x'))",
            "($x := $pad('', 1000000, 'x'); [1..1000].($x & $string($)))",
            "$reduce([1..60], function($a, $b) { $base64encode($a) }, 'ä')",
            "($x := $pad('', 3000000, '\\n'); $string([$x, $x]))",
            "$reduce([1..200000], function($f, $i) { function($x) { $f($i) } }, 1)",
        ],
    );
}

#[test]
fn what_just_fits_takes_no_more_than_it_may() {
    for large in [
        "$length($pad('', 15000000, 'x'))",
        "$pad(name, -15000000, 'xy')",
        "$length($uppercase($pad('', 2500000, 'ΐ')))",
        "$length($string([$pad('', 2500000, '\n')]))",
        "$length($base64encode($pad('', 7000000, 'x')))",
        "$count([1..990000])",
        "$count($split($pad('', 300000, 'x'), ''))",
        "$count($sort([1..20000], function($a, $b) { $a < $b }))",
        "$count($keys([1..60000]{ $string($): $ }))",
        "[1..200000]",
        "($x := $pad('', 5000000, 'x'); $x & $x)",
        "$length($join([1..100000].$string(), ', '))",
    ] {
        let (result, memory) = goes_off(large);
        assert!(memory < MOST_KB, "{large}: {result}, {memory} kB");
    }
}

#[test]
fn long_names_and_many_arguments_are_paid_for() {
    let many = "1,".repeat(20_000);
    let bombs = [
        "($x := $pad('', 8000000, 'x'); [1..100000]{ $x: 1 })".to_owned(),
        "($x := $pad('', 8000000, 'x'); $o := { $x: 1 }; [1..100000].$lookup($o, $x))".to_owned(),
        "($x := $pad('', 8000000, 'x'); $o := { $x: 1 }; [1..100000].($o = $o))".to_owned(),
        format!("[1..100000].$zip({many}1)"),
        format!("($f := function($x) <x+> {{ $x }}; [1..100000].$f({many}1))"),
    ];
    let bombs: Vec<&str> = bombs.iter().map(String::as_str).collect();
    reaches(Bound::Steps, &bombs);
}

#[test]
fn what_doubles_by_being_shared_ends_in_steps_or_memory() {
    let pair = "$reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, {'c': 1})";
    for what in [
        "PAIR",
        "$string(PAIR)",
        "$string(PAIR, true)",
        "PAIR = PAIR",
        "PAIR.**",
        "$keys([PAIR.**])",
        "[PAIR] ~> $distinct",
        "$clone(PAIR) ~> |a|{'x': 1}|",
        "$count(PAIR.**.c)",
        "$boolean($reduce([1..60], function($a, $b) { [[$a, $a]] }, [0]))",
        "$reduce([1..60], function($a, $b) { [$a, $a] }, [0])",
        "$reduce([1..60], function($a, $b) { $append($a, $a) }, [0])",
        "$reduce([1..60], function($a, $b) { $a.[$, $] }, [0])",
        "$reduce([1..60], function($a, $b) { $merge([$a, {'k' & $b: $a}]) }, {})",
        "$reduce([1..99], function($a, $b) { $spread([$a, $a]) }, {'a': 1})",
        "$reduce([1..60], function($a, $b) { $zip($append($a, $a), $append($a, $a)) }, [1, 2])",
        "[1..200000]{ $string($): $ }",
        "$split($pad('', 900000, 'x'), '')",
        "($x := $pad('', 1000, 'x'); $replace($x, /(x)/, $pad('', 90000, '$1$1$0')))",
        "$reduce([1..100000], function($a, $i) { $merge([$a, { $string($i): $i }]) }, {})",
    ] {
        let bomb = what.replace("PAIR", pair);
        let (result, memory) = goes_off(&bomb);
        let bounds = [Bound::Steps, Bound::Bytes].map(|bound| Failure::Bound(bound).to_string());
        assert!(bounds.contains(&result), "{bomb:.200}: {result}");
        assert!(memory < MOST_KB, "{bomb:.200}: {memory} kB");
    }
}

#[test]
fn regular_expressions_are_linear() {
    // Each would take a backtracking engine longer than the world will stand.
    for pattern in [
        "(a+)+b",
        "(a|aa)+$|b",
        "(a|a)*b",
        "(.*)*b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(a?){50}a{50}b",
    ] {
        let text = "$pad('', 2000, 'a')";
        let calls = [
            format!("$contains({text}, /{pattern}/)"),
            format!("$match({text}, /{pattern}/)"),
            format!("$replace({text}, /{pattern}/, 'x')"),
            format!("$split({text}, /{pattern}/)"),
        ];
        for call in calls {
            let expression = Expression::parse(&call).unwrap();
            let (_, spent) = expression.measure(&Data::Null);
            assert!(spent.steps < MOST_STEPS / 2, "{call}: {spent:?}");
        }
    }
    reaches(
        Bound::Steps,
        &["($x := $pad('', 1000000, 'a '); [1..1000].$contains($x, /(x+x+)+y/))"],
    );
}

#[test]
fn what_no_linear_engine_can_match_is_refused_at_once() {
    let many = "[/a/".to_owned() + &", /a/".repeat(50) + "]";
    for text in [
        "/(?=a)/",
        "/(a)\\1/",
        "/(?<!a)b/",
        "/((a{99}){99}){99}/",
        "/a(/",
        &many,
    ] {
        let error = Expression::parse(text).unwrap_err();
        assert!(error.reason.contains("regular expression"), "{error}");
    }
}

#[test]
fn deep_and_long_expressions_are_refused_at_once() {
    for (part, end) in [
        ("(", ""),
        ("[", ""),
        ("{'a':", ""),
        ("-", "1"),
        ("1+", "1"),
        ("a[", "1"),
        ("$f(", "1"),
        ("a?b:", "c"),
        ("$x:=", "1"),
        ("function($x){", "1"),
        ("a~>", "$f"),
        ("a??", "b"),
        ("|a|", "b|"),
    ] {
        let text = part.repeat(60_000 / part.len()) + end;
        let error = Expression::parse(&text).unwrap_err();
        assert!(error.reason.contains("nested deeper"), "{part}: {error}");
    }
    let long = "a.".repeat(30_000) + "a";
    assert!(Expression::parse(&long).is_ok());
    let parents = "%.".repeat(30_000) + "a";
    let error = Expression::parse(&parents).unwrap_err();
    assert!(error.reason.contains("more than 64 `%`"), "{error}");
    assert!(Expression::parse(&"x".repeat(70_000)).is_err());
}

#[test]
fn a_deep_or_large_event_is_an_error_and_nothing_worse() {
    let mut deep = Data::Null;
    for _ in 0..150 {
        deep = Data::Array(vec![deep]);
    }
    let itself = Expression::parse("$").unwrap();
    let bound = |event: &Data| itself.evaluate(event).unwrap_err().to_string();
    assert_eq!(bound(&deep), Failure::Bound(Bound::ValueDepth).to_string());
    let large = Data::Text("x".repeat(40 << 20));
    assert_eq!(bound(&large), Failure::Bound(Bound::Bytes).to_string());
}

#[test]
fn the_same_is_spent_in_every_thread_at_once() {
    let text = "$sum(lines.(price * count)) & $join(lines.tags, ',')";
    let expression = Expression::parse(text).unwrap();
    let event = crate::data(&crate::order());
    let once = expression.measure(&event);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(expression.measure(&event), once);
                }
            });
        }
    });
}

/// A worker of the runtime has 2 MB, of which it has used some.
#[test]
fn the_deepest_evaluation_fits_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(1_500 << 10);
    let thread = small.spawn(|| {
        for text in [
            "($f := function($n) { $replace('a', /a/, $f) }; $f(0))",
            "($f := function($n) { [1, 2]^($f($n)) }; $f(0))",
            "($f := function($n) { $n{'a': $f($n)} }; $f(1))",
            "($f := function($n) { $sort([1, 2], $f) }; $f(0))",
        ] {
            let result = Expression::parse(text).unwrap().evaluate(&Data::Null);
            assert_eq!(result, Err(Failure::Bound(Bound::Depth)), "{text}");
        }
    });
    thread.unwrap().join().unwrap();
}
