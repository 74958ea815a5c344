//! One poisoned event stops one stream, of one model.

use event_log::avro::CodecError;
use projector::{
    Tuning, model,
    quarantine::{QuarantineError, Released, Skip},
};

use crate::{
    exactly_once::fold,
    log::{Log, Piece},
    models::{Erasures, Note, Tally, schemas, written},
    world::{World, registered, until},
};

const WRITTEN: &str = "annals.notes.Written";

pub fn a_reason() -> Skip {
    Skip {
        reason: "it was never valid".into(),
        by: "ada".into(),
    }
}

/// What was let go, once the registry answers the desk: before that nothing was done.
pub async fn released(
    attempt: impl AsyncFn() -> Result<Vec<Released>, QuarantineError>,
) -> Vec<Released> {
    registered(async || match attempt().await {
        Err(QuarantineError::Codec(CodecError::Registry(error))) => Err(error),
        done => Ok(done.unwrap()),
    })
    .await
}

/// Streams of one partition.
fn streams(log: &Log, prefix: &str, count: usize) -> Vec<String> {
    let names = (0..).map(|i| format!("{prefix}{i}"));
    let of_partition = names.filter(|name| log.partition_of(name) == 0);
    of_partition.take(count).collect()
}

/// The schema's id is right, but the text's length is more than there is.
async fn bad_bytes(world: &World) -> Vec<u8> {
    let schema = schemas();
    let text = &schema.current("Written").unwrap().text;
    let id = registered(async || world.registry.look_up(WRITTEN, text).await).await;
    [&[0][..], &id.to_be_bytes(), &[80, 1]].concat()
}

#[tokio::test]
async fn a_poisoned_event_in_any_place_of_a_batch_stops_its_stream_alone() {
    let (world, mut log) = World::new().await;
    let unknown_schema = [0, 0, 15, 66, 64, 0].to_vec();
    let poisons = [
        ("unreadable", Piece::Raw(WRITTEN, bad_bytes(&world).await)),
        ("unreadable", Piece::Raw(WRITTEN, unknown_schema)),
        ("unreadable", Piece::Damaged),
        ("23514", Piece::Event(written("in debt", -1))),
    ];
    let mut cases = Vec::new();
    for (kind, (code, poison)) in poisons.into_iter().enumerate() {
        for place in 0..6 {
            let streams = streams(&log, &format!("case-{kind}-{place}-"), 3);
            let mut pieces: Vec<_> = (0..6)
                .map(|i| {
                    let note = written(&format!("{kind}-{place}-{i}"), i);
                    (streams[i as usize % 3].clone(), Piece::Event(note))
                })
                .collect();
            pieces[place].1 = poison.clone();
            let offset = log.append_mixed(&pieces).await;
            cases.push((streams, place, code, pieces, offset));
        }
    }
    let tuning = Tuning {
        quarantined_per_minute: 100,
        ..Tuning::default()
    };
    let running = world.start_with(tuning, vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    // A quarantine is no trouble of the model's.
    running.ready().await;
    let quarantined = world.quarantined().await;
    assert_eq!(quarantined.len(), cases.len());

    let events_of = |pieces: &[(String, Piece)], stream: &str| -> Vec<Note> {
        let of_stream = pieces.iter().filter(|(of, _)| of == stream);
        let events = of_stream.filter_map(|(_, piece)| match piece {
            Piece::Event(event) => Some(event.clone()),
            Piece::Raw(..) | Piece::Damaged => None,
        });
        events.collect()
    };
    for (streams, place, code, pieces, offset) in &cases {
        let poisoned = &streams[place % 3];
        let entry = quarantined
            .iter()
            .find(|it| it.stream == format!("main/note/{poisoned}"))
            .unwrap();
        assert_eq!(entry.offset, offset + *place as i64);
        assert_eq!(entry.code, *code, "{}", entry.reason);
        assert_eq!(entry.held, i64::from(*place < 3));
        for stream in streams {
            let mut expected = events_of(&pieces[..], stream);
            if stream == poisoned {
                expected = events_of(&pieces[..*place], stream);
            }
            let expected = Some(fold(&expected)).filter(|fold| fold.0 > 0);
            assert_eq!(world.tally(stream).await, expected, "{stream}");
        }
    }

    // Some can be mended, the others are left out: every stream is whole again.
    world
        .execute("alter table rm_tally_e1.weights drop constraint no_debt")
        .await;
    let desk = world.desk(vec![model::<Tally>()]);
    for entry in &quarantined {
        let released = released(async || match entry.code.as_str() {
            "unreadable" => desk.skip("tally", &entry.stream, &a_reason()).await,
            _ => desk.retry("tally", &entry.stream).await,
        });
        assert!(released.await[0].still.is_none());
    }
    assert_eq!(world.quarantined().await, []);
    for (streams, _, _, pieces, _) in &cases {
        for stream in streams {
            let expected = Some(fold(&events_of(pieces, stream))).filter(|fold| fold.0 > 0);
            assert_eq!(world.tally(stream).await, expected, "{stream}");
        }
    }
    // And goes on from there, though the worker has to learn it.
    for (streams, place, _, pieces, _) in &cases {
        let stream = &streams[place % 3];
        log.append(stream, &[written("more", 1)]).await;
        let mut expected = events_of(pieces, stream);
        expected.push(written("more", 1));
        until("the stream goes on", async || {
            world.tally(stream).await == Some(fold(&expected))
        })
        .await;
    }
    running.stop().await;
}

#[tokio::test]
async fn only_the_model_that_takes_a_poisoned_event_holds_its_stream_back() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>(), model::<Erasures>()]);
    log.append("a", &[written("one", 1)]).await;
    let value = bad_bytes(&world).await;
    let offset = log.append_raw("a", WRITTEN, &value).await;
    log.append("a", &[Note::Erased {}]).await;
    log.append("a", &[Note::Erased {}]).await;
    world.caught_up("erasures", &log).await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.erasures().await, 2);
    assert_eq!(world.tally("a").await.unwrap().0, 1);
    let quarantined = world.quarantined().await;
    let [entry] = &quarantined[..] else {
        panic!("{quarantined:?}");
    };
    assert_eq!((entry.model.as_str(), entry.edition), ("tally", 1));
    assert_eq!((entry.offset, entry.held), (offset, 2));
    assert_eq!(entry.event_type.as_deref(), Some(WRITTEN));
    running.stop().await;
}

#[tokio::test]
async fn what_was_held_back_outlives_the_worker() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("in debt", -1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;
    log.append("a", &[written("later", 1)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await, None);
    assert_eq!(world.quarantined().await[0].held, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_retry_ends_at_the_next_poisoned_event() {
    let (world, mut log) = World::new().await;
    let events = [
        written("too little", -1),
        written("fine", 1),
        written("much too little", -50),
        written("fine again", 2),
    ];
    let offset = log.append("a", &events).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    let desk = world.desk(vec![model::<Tally>()]);
    let retry = async || released(async || desk.retry("tally", "main/note/a").await).await;

    // Nothing was mended.
    let released = retry().await;
    let still = released[0].still.as_ref().unwrap();
    assert_eq!((still.offset, still.held, still.retries), (offset, 3, 1));
    assert_eq!(world.tally("a").await, None);

    world
        .execute(
            "alter table rm_tally_e1.weights drop constraint no_debt,
                 add constraint little_debt check (weight > -10)",
        )
        .await;
    let released = retry().await;
    assert_eq!(released[0].applied, 2);
    let still = released[0].still.as_ref().unwrap();
    assert_eq!(
        (still.offset, still.held, still.retries),
        (offset + 2, 1, 2)
    );
    assert!(still.reason.contains("little_debt"), "{}", still.reason);
    assert_eq!(world.tally("a").await, Some(fold(&events[..2])));

    self::released(async || desk.skip("tally", "main/note/a", &a_reason()).await).await;
    let without = [&events[..2], &events[3..]].concat();
    assert_eq!(world.tally("a").await, Some(fold(&without)));
    // Those who follow are past the events, and hear of them where they are now.
    let told: Vec<i64> = sqlx::query_scalar(r#"select "offset" from rm_tally_e1.changes"#)
        .fetch_all(&world.postgres)
        .await
        .unwrap();
    assert_eq!(told, [offset + 4; 3]);
    assert_eq!(world.quarantined().await, []);
    running.stop().await;
}

#[tokio::test]
async fn too_many_poisoned_streams_stop_the_model_instead() {
    let (world, mut log) = World::new().await;
    let streams = streams(&log, "s", 3);
    for stream in &streams {
        log.append(stream, &[written("fine", 1), written("in debt", -1)])
            .await;
    }
    log.append(&streams[0], &[written("held", 1)]).await;
    let tuning = Tuning {
        quarantined_per_minute: 2,
        ..Tuning::default()
    };
    let running = world.start_with(tuning, vec![model::<Tally>()]);
    running
        .troubled("tally", "2 streams were quarantined within a minute")
        .await;
    assert_eq!(world.quarantined().await.len(), 2);
    // What came before is there, and the third stream's poison was not passed.
    assert_eq!(
        world.tally(&streams[2]).await,
        Some(fold(&[written("fine", 1)]))
    );

    // It is tried again for as long as it stands there.
    world
        .execute("alter table rm_tally_e1.weights drop constraint no_debt")
        .await;
    world.caught_up("tally", &log).await;
    let expected = fold(&[written("fine", 1), written("in debt", -1)]);
    assert_eq!(world.tally(&streams[2]).await, Some(expected));
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn whoever_names_what_is_not_there_is_told_so() {
    let (world, mut log) = World::new().await;
    log.append("a", &[written("in debt", -1)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    let desk = world.desk(vec![model::<Tally>()]);
    let refused = desk.retry("tali", "main/note/a").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there is no read model tali; there are tally"
    );
    for (stream, expected) in [
        ("main/note/b", "main/note/b is not in quarantine for tally"),
        ("a; drop table annals.quarantine", "is neither a stream"),
        ("", "is neither a stream"),
    ] {
        let refused = desk.retry("tally", stream).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    world
        .execute("update annals.editions set version = 7")
        .await;
    let refused = desk.retry("tally", "main/note/a").await.unwrap_err();
    assert!(matches!(
        refused,
        QuarantineError::OtherVersion { version: 7, .. }
    ));
    assert_eq!(world.quarantined().await.len(), 1);
    running.stop().await;
}
