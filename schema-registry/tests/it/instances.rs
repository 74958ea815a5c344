//! Several registries on one database.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::running::{new_database, registry_on, starting_on};

fn schema(number: usize) -> Value {
    json!({"type": "record", "name": "R", "fields": [
        {"name": format!("f{number}"), "type": "int", "default": 0}
    ]})
}

#[tokio::test]
async fn registries_that_start_at_once_create_the_tables_once() {
    let database = new_database().await;
    let starting = join_all((0..4).map(|_| starting_on(&database))).await;
    join_all(starting.iter().map(|registry| registry.until_ready(true))).await;
    let id = starting[0].registered("users", &schema(0)).await;
    assert_eq!(starting[3].registered("users", &schema(0)).await, id);
}

/// 20 schemas, each registered at once under 3 subjects by 2 callers through each of 2 instances.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations_give_no_id_and_no_version_twice() {
    let database = new_database().await;
    let instances = [registry_on(&database).await, registry_on(&database).await];
    let mut registrations = Vec::new();
    for number in 0..20 {
        for subject in ["a", "b", "c"] {
            for instance in [&instances[0], &instances[1], &instances[0], &instances[1]] {
                registrations.push(async move {
                    let answer = instance.register_at_last(subject, &schema(number)).await;
                    let number_of = |key: &str| {
                        answer.body[key]
                            .as_i64()
                            .unwrap_or_else(|| panic!("{}", answer.text))
                    };
                    (number, subject, number_of("id"), number_of("version"))
                });
            }
        }
    }
    let mut ids: BTreeMap<usize, BTreeSet<i64>> = BTreeMap::new();
    let mut versions: BTreeMap<(&str, i64), BTreeSet<usize>> = BTreeMap::new();
    for (number, subject, id, version) in join_all(registrations).await {
        ids.entry(number).or_default().insert(id);
        versions
            .entry((subject, version))
            .or_default()
            .insert(number);
    }
    assert!(
        ids.values().all(|ids| ids.len() == 1),
        "one schema has two ids: {ids:?}"
    );
    let different: BTreeSet<_> = ids.values().flatten().collect();
    assert_eq!(different.len(), 20, "two schemas share an id: {ids:?}");
    assert_eq!(versions.len(), 60, "{versions:?}");
    assert!(
        versions.values().all(|schemas| schemas.len() == 1),
        "{versions:?}"
    );
    for subject in ["a", "b", "c"] {
        let all: Vec<i64> = (1..=20).collect();
        instances[1]
            .get(&format!("/subjects/{subject}/versions"))
            .await
            .is(json!(all));
    }
}

/// Of two schemas that exclude each other, one gets in, whichever instance is asked.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations_are_held_against_each_other() {
    let database = new_database().await;
    let instances = [registry_on(&database).await, registry_on(&database).await];
    for round in 0..20 {
        let subject = format!("s{round}");
        let [one, other] = ["int", "string"]
            .map(|type_| json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": type_}]}));
        let (one, other) = tokio::join!(
            instances[0].register_at_last(&subject, &one),
            instances[1].register_at_last(&subject, &other)
        );
        let accepted = [one, other]
            .iter()
            .filter(|answer| answer.status.is_success())
            .count();
        assert_eq!(accepted, 1, "round {round}");
    }
}
