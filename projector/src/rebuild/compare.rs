//! Whether two editions have the same rows: counts and checksums, table by table, and where these
//! differ, in which columns, with a few rows that only one of them has.
//!
//! A checksum is the sum of a 64-bit hash of each row's text: it does not depend on the order in
//! which the rows lie.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::read_side::Edition;

/// The platform's own, in every edition: its rows are pruned by age.
const PLATFORM_TABLES: &[&str] = &["changes"];
/// So many rows of each edition show what a difference is about.
const EXAMPLES: i64 = 3;

/// Two editions at the same positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub model: String,
    pub old_edition: i32,
    pub new_edition: i32,
    pub tables: Vec<TableComparison>,
    /// Streams that are quarantined in the old and in the new edition: their rows may differ.
    pub quarantined: [i64; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableComparison {
    pub table: String,
    /// Of the old and of the new edition; nothing where it has no such table.
    pub rows: [Option<i64>; 2],
    /// That was said to differ, so it was not compared.
    pub expected: bool,
    /// Columns that were said to differ, so they were not compared.
    pub expected_columns: Vec<String>,
    /// Why the two are not the same; empty when they are.
    pub differences: Vec<String>,
}

/// Tables (`table`) and columns (`table.column`) that are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(BTreeSet<String>);

impl Comparison {
    /// Whether nothing differs but what was expected to.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.differences.is_empty())
    }
}

impl<T: Into<String>> FromIterator<T> for Expected {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<String>> Extend<T> for Expected {
    fn extend<I: IntoIterator<Item = T>>(&mut self, names: I) {
        self.0.extend(names.into_iter().map(Into::into));
    }
}

impl IntoIterator for Expected {
    type Item = String;
    type IntoIter = std::collections::btree_set::IntoIter<String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// By table, the columns and their types.
type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// What one edition's table has, as far as it is compared.
#[derive(PartialEq, Eq, sqlx::FromRow)]
struct Digest {
    rows: i64,
    /// Of whole rows.
    checksum: String,
}

/// Compares in a transaction of one snapshot. `done` is told each table, and how many there are.
pub(super) async fn compare(
    snapshot: &mut PgConnection,
    [old, new]: [&Edition; 2],
    expected: &Expected,
    mut done: impl FnMut(&str, usize),
) -> Result<Comparison, sqlx::Error> {
    let theirs = tables(snapshot, old).await?;
    let ours = tables(snapshot, new).await?;
    let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).cloned().collect();
    let mut compared = Vec::new();
    for table in &names {
        let columns = [theirs.get(table), ours.get(table)];
        let pair = Pair {
            table,
            editions: [old, new],
            columns,
            expected,
        };
        compared.push(pair.compare(snapshot).await?);
        done(table, names.len());
    }
    Ok(Comparison {
        model: old.model.clone(),
        old_edition: old.number,
        new_edition: new.number,
        tables: compared,
        quarantined: [
            quarantined(snapshot, old).await?,
            quarantined(snapshot, new).await?,
        ],
    })
}

/// Names among `expected` that neither edition has.
pub(super) async fn unknown(
    connection: &mut PgConnection,
    [old, new]: [&Edition; 2],
    expected: &Expected,
) -> Result<Vec<String>, sqlx::Error> {
    let both = [
        tables(connection, old).await?,
        tables(connection, new).await?,
    ];
    let is_known = |name: &str| {
        both.iter().any(|tables| match name.split_once('.') {
            None => tables.contains_key(name),
            Some((table, column)) => tables.get(table).is_some_and(|it| it.contains_key(column)),
        })
    };
    let unknown = expected.0.iter().filter(|name| !is_known(name));
    Ok(unknown.cloned().collect())
}

/// A table of both editions, or of one.
struct Pair<'a> {
    table: &'a str,
    editions: [&'a Edition; 2],
    columns: [Option<&'a BTreeMap<String, String>>; 2],
    expected: &'a Expected,
}

impl Pair<'_> {
    async fn compare(&self, snapshot: &mut PgConnection) -> Result<TableComparison, sqlx::Error> {
        let mut comparison = TableComparison {
            table: self.table.into(),
            rows: [None, None],
            expected: self.expected.0.contains(self.table),
            expected_columns: Vec::new(),
            differences: Vec::new(),
        };
        let (Some(theirs), Some(ours)) = (self.columns[0], self.columns[1]) else {
            for (index, columns) in self.columns.iter().enumerate() {
                let edition = self.editions[index];
                match columns {
                    Some(_) => {
                        let digest = self.digest(snapshot, edition, &[]).await?;
                        comparison.rows[index] = Some(digest.rows);
                    }
                    None if !comparison.expected => comparison
                        .differences
                        .push(format!("edition {} has no such table", edition.number)),
                    None => {}
                }
            }
            return Ok(comparison);
        };
        let mut compared = Vec::new();
        for column in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            if self
                .expected
                .0
                .contains(&format!("{}.{column}", self.table))
            {
                comparison.expected_columns.push(column.clone());
                continue;
            }
            match (theirs.get(column), ours.get(column)) {
                (Some(one), Some(other)) if one == other => compared.push(column.as_str()),
                _ if comparison.expected => {}
                (Some(one), Some(other)) => comparison
                    .differences
                    .push(format!("column {column} was {one} and is {other}")),
                (one, _) => {
                    let without = self.editions[usize::from(one.is_some())].number;
                    let difference = format!("edition {without} has no column {column}");
                    comparison.differences.push(difference);
                }
            }
        }
        let mut digests = Vec::new();
        for (index, edition) in self.editions.into_iter().enumerate() {
            let digest = self.digest(snapshot, edition, &compared).await?;
            comparison.rows[index] = Some(digest.rows);
            digests.push(digest);
        }
        if !comparison.expected && digests[0] != digests[1] {
            self.explain(snapshot, &compared, &mut comparison).await?;
        }
        Ok(comparison)
    }

    async fn digest(
        &self,
        snapshot: &mut PgConnection,
        edition: &Edition,
        columns: &[&str],
    ) -> Result<Digest, sqlx::Error> {
        let select = format!(
            "select count(*) as rows,
                 coalesce(sum(hashtextextended(row({})::text, 0)::numeric), 0)::text as checksum
             from {}",
            quoted(columns),
            self.name_in(edition)
        );
        // Names come from the catalogue and are quoted.
        sqlx::query_as(AssertSqlSafe(select))
            .fetch_one(snapshot)
            .await
    }

    /// Says what is not the same in two tables whose digests are not.
    async fn explain(
        &self,
        snapshot: &mut PgConnection,
        columns: &[&str],
        comparison: &mut TableComparison,
    ) -> Result<(), sqlx::Error> {
        let [old, new] = self.editions;
        if let [Some(theirs), Some(ours)] = comparison.rows
            && theirs != ours
        {
            comparison.differences.push(format!(
                "edition {} has {theirs} rows, edition {} {ours}",
                old.number, new.number
            ));
        }
        let mut differing = Vec::new();
        for column in columns {
            let theirs = self.digest(snapshot, old, &[column]).await?;
            let ours = self.digest(snapshot, new, &[column]).await?;
            if theirs.checksum != ours.checksum {
                differing.push(*column);
            }
        }
        comparison.differences.push(match differing.as_slice() {
            [] => "the same values stand in other rows".into(),
            differing => format!("values differ in {}", differing.join(", ")),
        });
        for (edition, other) in [(old, new), (new, old)] {
            let select = format!(
                "select row_to_json(lone)::text from (
                     select {0} from {1} except all select {0} from {2} limit {EXAMPLES}) as lone",
                texts(columns),
                self.name_in(edition),
                self.name_in(other),
            );
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select))
                .fetch_all(&mut *snapshot)
                .await?;
            let examples = rows.into_iter();
            comparison
                .differences
                .extend(examples.map(|row| format!("only in edition {}: {row}", edition.number)));
        }
        Ok(())
    }

    fn name_in(&self, edition: &Edition) -> String {
        format!("{}.{}", edition.schema(), quoted(&[self.table]))
    }
}

async fn tables(connection: &mut PgConnection, edition: &Edition) -> Result<Tables, sqlx::Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
         from pg_class as c
         join pg_namespace as n on n.oid = c.relnamespace
         join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition",
    )
    .bind(edition.schema())
    .fetch_all(connection)
    .await?;
    let mut tables = Tables::new();
    for (table, column, kind) in rows {
        if !PLATFORM_TABLES.contains(&&*table) {
            tables.entry(table).or_default().insert(column, kind);
        }
    }
    Ok(tables)
}

async fn quarantined(connection: &mut PgConnection, edition: &Edition) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from annals.quarantine where model = $1 and edition = $2")
        .bind(&edition.model)
        .bind(edition.number)
        .fetch_one(connection)
        .await
}

fn quoted(names: &[&str]) -> String {
    let quoted = names
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(", ")
}

/// As text: not every type can be told equal.
fn texts(columns: &[&str]) -> String {
    let texts = columns.iter().map(|column| {
        let column = quoted(&[column]);
        format!("{column}::text as {column}")
    });
    texts.collect::<Vec<_>>().join(", ")
}
