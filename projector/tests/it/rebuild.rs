//! A model is built again beside the one that is read, compared, swapped in, and taken back.

use std::time::Instant;

use event_log::Recorded;
use projector::{
    ReadModel, model,
    read_side::{CHANNEL, Edition, EditionSwapped, checkpoint},
    rebuild::{Comparison, Rebuild, RebuildError, drop_edition, editions, roll_back},
};
use sqlx::{PgConnection, postgres::PgListener};
use tokio_util::sync::CancellationToken;

use crate::{
    exactly_once::fold,
    log::Log,
    models::{Note, Tally, written},
    world::{PATIENCE, World, until},
};

/// The tally of the next release: weights are counted double, and there is one column more.
struct NextTally;

impl ReadModel for NextTally {
    const NAME: &'static str = "tally";
    const VERSION: u32 = 2;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "
        create table tally (
            stream text primary key,
            events bigint not null,
            weight bigint not null,
            digest text not null,
            heaviest bigint not null default 0
        );
        create table weights (stream text, weight bigint);";
    const DIFFERS: &'static [&'static str] = &["tally.weight", "tally.heaviest"];

    type Event = Note;

    async fn project(events: &[Recorded<Note>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        Tally::project(events, db).await?;
        for event in events {
            sqlx::query(
                "update tally set weight = weight + $2, heaviest = greatest(heaviest, $2)
                  where stream = $1",
            )
            .bind(event.envelope.stream.as_str())
            .bind(event.event.weight())
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

async fn caught_up(rebuild: &Rebuild) {
    until("the new edition has what the old one has", async || {
        let progress = rebuild.progress().await.unwrap();
        progress.goal > 0 && progress.done == progress.goal
    })
    .await;
}

/// Tries again what was refused because the workers were too slow for it, as they may be on a busy
/// machine.
async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, RebuildError>) -> T {
    use RebuildError::{Behind, NoSnapshot, NotFed};
    let began = Instant::now();
    loop {
        match attempt().await {
            Err(NotFed { .. } | NoSnapshot { .. } | Behind { .. })
                if began.elapsed() < PATIENCE => {}
            done => return done.unwrap(),
        }
    }
}

/// Waits until nobody rebuilds, which Postgres knows a little after the connection was closed that
/// has the lock.
async fn nobody_rebuilds(world: &World) {
    until("nobody has the lock of a model", async || {
        sqlx::query_scalar(
            "select not exists (select from pg_locks join pg_database on database = pg_database.oid
                                where locktype = 'advisory' and datname = current_database())",
        )
        .fetch_one(&world.postgres)
        .await
        .unwrap()
    })
    .await;
}

/// Appends to three streams until it is stopped; answers the log and what each stream has.
async fn append_until(stop: CancellationToken, mut log: Log) -> (Log, Vec<Note>) {
    let mut events = Vec::new();
    while !stop.is_cancelled() {
        let more = [written(&events.len().to_string(), 1)];
        for stream in ["a", "b", "c"] {
            log.append(stream, &more).await;
        }
        events.extend(more);
    }
    (log, events)
}

#[tokio::test]
async fn a_rebuild_under_load_is_equal_and_read_at_once_and_taken_back_whole() {
    let (world, log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    let mut listener = PgListener::connect_with(&world.postgres).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();
    let stop = CancellationToken::new();
    let load = tokio::spawn(append_until(stop.clone(), log));

    let rebuild = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap();
    assert!(rebuild.is_made);
    assert_eq!((rebuild.old.number, rebuild.new.number), (1, 2));
    until("the new edition is nearly there", async || {
        let progress = rebuild.progress().await.unwrap();
        // Markers count.
        progress.done > 40 && progress.is_nearly_there()
    })
    .await;
    let (comparison, seen): (Comparison, _) = patiently(async || {
        let mut seen = Vec::new();
        let compared = rebuild.compare(|table, of| seen.push((table.to_owned(), of)));
        Ok((compared.await?, seen))
    })
    .await;
    assert!(comparison.is_equal(), "{comparison:#?}");
    assert_eq!(seen, [("tally".into(), 2), ("weights".into(), 2)]);
    let weights = &comparison.tables[1];
    assert_eq!(weights.rows[0], weights.rows[1]);
    assert!(weights.rows[0] > Some(30), "{weights:?}");
    patiently(async || rebuild.swap_in(false).await).await;
    assert_eq!(world.edition("tally").await.unwrap().number, 2);
    let told = loop {
        let told = listener.recv().await.unwrap();
        if let Ok(swapped) = serde_json::from_str::<EditionSwapped>(told.payload()) {
            break swapped;
        }
    };
    assert_eq!((&*told.model, told.swapped_to), ("tally", 2));
    drop(rebuild);

    // The old one is fed still, and has all that was read when it is taken back.
    let read = sum_of(&world, 2).await;
    let previous: Edition = patiently(async || {
        nobody_rebuilds(&world).await;
        roll_back(&world.postgres, "tally", false).await
    })
    .await;
    assert_eq!(previous.number, 1);
    assert!(sum_of(&world, 1).await >= read);
    assert_eq!(world.edition("tally").await.unwrap().number, 1);

    stop.cancel();
    let (log, events) = load.await.unwrap();
    world.caught_up("tally", &log).await;
    for stream in ["a", "b", "c"] {
        assert_eq!(world.tally(stream).await, Some(fold(&events)), "{stream}");
    }
    running.stop().await;
}

async fn sum_of(world: &World, edition: i32) -> i64 {
    let sum = match edition {
        1 => "select coalesce(sum(events), 0)::bigint from rm_tally_e1.tally",
        _ => "select coalesce(sum(events), 0)::bigint from rm_tally_e2.tally",
    };
    sqlx::query_scalar(sum)
        .fetch_one(&world.postgres)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_edition_that_differs_says_in_what() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1), written("two", 2)])
        .await;
    log.append("b", &[Note::Erased {}]).await;
    world.caught_up("tally", &log).await;
    let mut rebuild = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap();
    caught_up(&rebuild).await;
    world
        .execute(
            "update rm_tally_e2.tally set weight = 8 where stream = 'main/note/a';
             delete from rm_tally_e2.weights where weight = 2;",
        )
        .await;

    let comparison = rebuild.compare(|_, _| {}).await.unwrap();
    assert!(!comparison.is_equal());
    let [tally, weights] = &comparison.tables[..] else {
        panic!("{comparison:#?}");
    };
    let differences = tally.differences.join("\n");
    assert!(
        differences.starts_with("values differ in weight\n"),
        "{differences}"
    );
    assert!(
        differences.contains("only in edition 1: {"),
        "{differences}"
    );
    assert!(differences.contains(r#""weight":"8""#), "{differences}");
    assert_eq!(weights.rows, [Some(3), Some(2)]);
    assert_eq!(weights.differences[0], "edition 1 has 3 rows, edition 2 2");

    rebuild.expect(["tally.weight".into(), "weights".into()]);
    let comparison = rebuild.compare(|_, _| {}).await.unwrap();
    assert!(comparison.is_equal(), "{comparison:#?}");
    rebuild.expect(["tally.wait".into()]);
    let refused = rebuild.compare(|_, _| {}).await.unwrap_err();
    assert!(
        matches!(&refused, RebuildError::UnknownNames { names, .. } if names == &["tally.wait"]),
        "{refused}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_new_version_differs_only_in_what_it_declares() {
    let (world, mut log) = World::new().await;
    let old = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1), Note::Erased {}]).await;
    world.caught_up("tally", &log).await;

    // Its projector builds it beside, and does not swap it in unasked.
    let new = world.start(vec![model::<NextTally>()]);
    new.ready().await;
    let rebuild = Rebuild::begin(&world.postgres, &model::<NextTally>())
        .await
        .unwrap();
    assert!(!rebuild.is_made);
    caught_up(&rebuild).await;
    assert_eq!(world.edition("tally").await.unwrap().number, 1);
    let comparison = rebuild.compare(|_, _| {}).await.unwrap();
    assert!(comparison.is_equal(), "{comparison:#?}");
    assert_eq!(
        comparison.tables[0].expected_columns,
        ["heaviest", "weight"]
    );
    rebuild.swap_in(false).await.unwrap();
    drop(rebuild);
    nobody_rebuilds(&world).await;

    // Code of the version before does not build it back.
    let refused = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RebuildError::OlderCode { ours: 1, .. }),
        "{refused}"
    );

    // Without a worker of its version, the old edition falls behind, and that is said.
    old.stop().await;
    log.append("a", &[written("two", 2)]).await;
    world.caught_up("tally", &log).await;
    nobody_rebuilds(&world).await;
    let refused = roll_back(&world.postgres, "tally", false)
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            RebuildError::Behind {
                edition: 1,
                version: 1,
                records: 1,
                ..
            }
        ),
        "{refused}"
    );
    nobody_rebuilds(&world).await;
    roll_back(&world.postgres, "tally", true).await.unwrap();
    assert_eq!(world.edition("tally").await.unwrap().number, 1);
    nobody_rebuilds(&world).await;
    let rebuild = Rebuild::begin(&world.postgres, &model::<NextTally>())
        .await
        .unwrap();
    assert_eq!(
        rebuild.new.number, 3,
        "one that was taken back is not taken for a new one"
    );
    let (topic, partition) = (log.topic(), log.partition_of("a"));
    until("the new edition is further than the old one", async || {
        let place = checkpoint(&world.postgres, &rebuild.new, &topic, partition);
        place.await.unwrap() == log.end_of(partition)
    })
    .await;
    let refused = rebuild.compare(|_, _| {}).await.unwrap_err();
    assert!(
        matches!(refused, RebuildError::NotFed { edition: 1, .. }),
        "{refused}"
    );
    new.stop().await;
}

#[tokio::test]
async fn a_rebuild_that_was_killed_is_gone_on_with() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    let rebuild = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap();
    caught_up(&rebuild).await;
    let refused = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RebuildError::UnderWay { .. }),
        "{refused}"
    );
    drop(rebuild);
    nobody_rebuilds(&world).await;
    // What a rebuild leaves that is killed at its barrier.
    world
        .execute(
            "update annals.checkpoints set barrier = next_offset,
                 barrier_until = clock_timestamp() + interval '1 second'",
        )
        .await;
    // Neither does the killing of the projector matter.
    drop(running);
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("two", 2)]).await;
    world.caught_up("tally", &log).await;

    let rebuild = Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap();
    assert!(!rebuild.is_made);
    assert_eq!(rebuild.new.number, 2);
    caught_up(&rebuild).await;
    let comparison = rebuild.compare(|_, _| {}).await.unwrap();
    assert!(comparison.is_equal(), "{comparison:#?}");
    rebuild.swap_in(false).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_dropped_edition_is_left_and_its_number_not_given_again() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    let postgres = &world.postgres;
    let rebuild = Rebuild::begin(postgres, &model::<Tally>()).await.unwrap();
    caught_up(&rebuild).await;
    rebuild.swap_in(false).await.unwrap();
    drop(rebuild);
    let drop_it = async |number| {
        nobody_rebuilds(&world).await;
        drop_edition(postgres, "tally", number).await
    };
    let begin = async || {
        nobody_rebuilds(&world).await;
        Rebuild::begin(postgres, &model::<Tally>()).await.unwrap()
    };
    let refused = drop_it(2).await.unwrap_err();
    assert!(matches!(refused, RebuildError::IsRead { .. }), "{refused}");
    drop_it(1).await.unwrap();
    let refused = drop_it(1).await.unwrap_err();
    assert!(
        matches!(refused, RebuildError::NoSuchEdition { .. }),
        "{refused}"
    );
    let left: bool = sqlx::query_scalar("select to_regnamespace('rm_tally_e1') is not null")
        .fetch_one(postgres)
        .await
        .unwrap();
    assert!(!left);
    running.ready().await;
    log.append("a", &[written("two", 2)]).await;
    world.caught_up("tally", &log).await;
    nobody_rebuilds(&world).await;
    let refused = roll_back(postgres, "tally", false).await.unwrap_err();
    assert!(
        matches!(refused, RebuildError::NoPrevious { .. }),
        "{refused}"
    );

    let rebuild = begin().await;
    assert_eq!(rebuild.new.number, 3);
    drop(rebuild);
    drop_it(3).await.unwrap();
    let rebuild = begin().await;
    assert_eq!(rebuild.new.number, 4);
    let listed = editions(postgres, Some("tally")).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|it| (it.edition, it.is_read)).collect();
    assert_eq!(listed, [(2, true), (4, false)]);
    running.stop().await;
}
