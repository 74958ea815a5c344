//! What expressions mean and cost is released with [`MEANING`]: `meaning.tsv` has it for an
//! expression of each kind, `expression TAB steps TAB bytes TAB result`.

use std::{fs, path::Path};

use jsonata::{Expression, MEANING};

use crate::{data, json_of, order};

const RELEASED: &str = include_str!("meaning.tsv");

#[test]
fn what_expressions_mean_and_cost_is_as_released() {
    let mut now = format!("{MEANING}\n");
    for line in RELEASED.lines().skip(1) {
        let expression = line.split('\t').next().unwrap();
        now.push_str(&measured(expression));
        now.push('\n');
    }
    if now != RELEASED {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("meaning.tsv");
        fs::write(&written, &now).unwrap();
        let lines = now.lines().zip(RELEASED.lines());
        let (is, was) = lines.into_iter().find(|(is, was)| is != was).unwrap();
        panic!(
            "an expression means or costs something else: raise MEANING, then take {} for \
             meaning.tsv\nwas: {was}\nis:  {is}",
            written.display()
        );
    }
}

fn measured(expression: &str) -> String {
    let (result, spent) = Expression::parse(expression)
        .unwrap()
        .measure(&data(&order()));
    let result = match result {
        Ok(Some(result)) => json_of(&result).to_string(),
        Ok(None) => "nothing".to_owned(),
        Err(failure) => format!("fails: {failure}"),
    };
    let (steps, bytes) = (spent.steps, spent.bytes);
    format!("{expression}\t{steps}\t{bytes}\t{result}")
}
