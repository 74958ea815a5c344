//! Following a read model: the list of tasks, and one task.

use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    PATIENCE, Running, answered, board,
    follower::{EventStream, Socket, asked},
    partition_of, problem, start, start_with, token, token_of, until,
};

const LIST: &str = "/v1/tasks";

async fn poll(running: &Running, path: &str) -> (Vec<i64>, String) {
    let page = running.get_json(path).await;
    let changes = page["changes"].as_array().unwrap();
    let versions = changes.iter().map(|it| it["version"].as_i64().unwrap());
    let position = page["position"].as_str().unwrap();
    (versions.collect(), position.into())
}

#[tokio::test]
async fn a_follower_is_told_the_state_and_then_each_change_once_and_in_order() {
    let running = start().await;
    board::project(&running.postgres, 3, &[(1, "feed the parrot")]).await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    let state = stream.expect("state").await;
    assert_eq!(state.data["items"][0]["title"], "feed the parrot");
    assert!(!state.position.is_empty());

    board::change(&running.postgres, 0, &[1, 2]).await;
    board::change(&running.postgres, 1, &[3]).await;
    board::change(&running.postgres, 0, &[1]).await;
    let first = stream.expect("change").await;
    assert_eq!(
        first.data,
        json!({ "keys": ["1"], "stream": "main/task/1", "version": 4 })
    );
    assert_eq!(stream.expect("change").await.version(), 5);
    let mut rest = stream.versions(2).await;
    rest.sort();
    assert_eq!(rest, [1, 6]);
    running.stop().await;
}

#[tokio::test]
async fn who_comes_back_is_told_what_it_has_missed_and_nothing_twice() {
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&running.postgres, 0, &[1, 2, 3]).await;
    assert_eq!(stream.versions(2).await, [1, 2]);
    let mut seen = stream.last_event_id.clone();
    drop(stream);
    board::change(&running.postgres, 0, &[4]).await;
    for version in [3, 4] {
        let mut stream = EventStream::open(&running, LIST, Some(&seen)).await;
        assert_eq!(stream.versions(1).await, [version]);
        seen = stream.last_event_id;
    }
    let mut stream = EventStream::open(&running, LIST, Some(&seen)).await;
    board::change(&running.postgres, 0, &[5]).await;
    assert_eq!(stream.versions(1).await, [5]);
    // The position of the URL is older than what the browser remembers.
    let path = format!("{LIST}?since={seen}");
    let mut stream = EventStream::open(&running, &path, Some(&stream.last_event_id)).await;
    board::change(&running.postgres, 0, &[6]).await;
    assert_eq!(stream.versions(1).await, [6]);
    let mut stream = EventStream::open(&running, &path, None).await;
    assert_eq!(stream.versions(2).await, [5, 6]);
    running.stop().await;
}

#[tokio::test]
async fn a_websocket_is_told_the_same() {
    let running = start_with(|config| config.following.heartbeat_ms = 50).await;
    board::project(&running.postgres, 1, &[(7, "feed the parrot")]).await;
    let mut socket = Socket::open(&running, "/v1/tasks/7").await;
    let state = socket.expect("state").await;
    assert_eq!(state.data["title"], "feed the parrot");
    socket.say("what is new?").await;
    let quiet = socket.expect("position").await;
    assert_eq!(quiet.data, Value::Null);

    board::change(&running.postgres, 0, &[7, 8]).await;
    let told = loop {
        let told = socket.next().await.unwrap();
        if told.event != "position" {
            break told;
        }
    };
    assert_eq!((told.event.as_str(), told.version()), ("change", 2));
    let path = format!("/v1/tasks/7?since={}", state.position);
    let mut again = Socket::open(&running, &path).await;
    again.expect("position").await;
    assert_eq!(again.expect("change").await, told);
    assert!(Socket::try_open(&running, "/v1/tasks/9").await.is_err());
    running.stop().await;
}

#[tokio::test]
async fn a_browsers_websocket_brings_its_token_as_a_subprotocol() {
    let running = start().await;
    let token = running.token("ada", "main");
    let both = format!("annals.changes, annals.bearer.{token}");
    let (mut socket, chosen) = Socket::of_browser(&running, LIST, &both).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("annals.changes"));
    socket.expect("state").await;
    board::change(&running.postgres, 0, &[1]).await;
    assert_eq!(socket.expect("change").await.version(), 1);
    for protocols in ["annals.changes", "annals.changes, annals.bearer.x.y.z"] {
        let refused = Socket::of_browser(&running, LIST, protocols).await;
        assert!(refused.is_err(), "{protocols}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_something_has_changed() {
    let running = start().await;
    let (none, position) = poll(&running, "/v1/tasks?wait=0").await;
    assert!(none.is_empty());
    let path = format!("/v1/tasks?wait=60&since={position}");
    let polling = running
        .request(&path)
        .bearer_auth(running.token("ada", "main"));
    let polling = tokio::spawn(answered(polling));
    board::change(&running.postgres, 1, &[1, 2]).await;
    let page: Value = polling.await.unwrap().json().await.unwrap();
    assert_eq!(page["changes"].as_array().unwrap().len(), 2);
    let (both, position) = poll(&running, &path).await;
    assert_eq!(both, [1, 2]);
    let (none, _) = poll(&running, &format!("/v1/tasks?wait=0&since={position}")).await;
    assert!(none.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_position_of_who_follows_is_one_that_a_read_can_wait_for() {
    let running = start_with(|config| config.position_wait_ms = 100).await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&running.postgres, 0, &[1]).await;
    let told = stream.expect("change").await;
    let read = format!("/v1/tasks?position={}", told.position);
    let visible = running.get(&read).await.status();
    assert_eq!(visible, StatusCode::OK);
    board::change(&running.postgres, 0, &[2]).await;
    // And a command's token is one to go on from.
    let path = format!("{LIST}?since={}", token(board::TOPIC, 0, 0));
    let mut after_it = EventStream::open(&running, &path, None).await;
    assert_eq!(after_it.versions(1).await, [2]);
    running.stop().await;
}

#[tokio::test]
async fn followers_hear_of_their_own_key_and_tenant_only() {
    let running = start().await;
    board::project(&running.postgres, 1, &[(1, "one"), (2, "two")]).await;
    let mut one = EventStream::open(&running, "/v1/tasks/1", None).await;
    assert_eq!(one.expect("state").await.data["title"], "one");
    let mut all = EventStream::open(&running, LIST, None).await;
    all.expect("state").await;
    board::change_of("acme", 1, &running.postgres, 0, &[1, 1]).await;
    board::change(&running.postgres, 0, &[2, 1]).await;
    assert_eq!(one.versions(1).await, [5]);
    assert_eq!(all.versions(2).await, [4, 5]);
    // From the table it is the same as from the tail.
    let mut one = EventStream::open(&running, "/v1/tasks/1?since=beginning", None).await;
    let mut all = EventStream::open(&running, "/v1/tasks?since=beginning", None).await;
    assert_eq!(one.versions(1).await, [5]);
    assert_eq!(all.versions(2).await, [4, 5]);
    running.stop().await;
}

#[tokio::test]
async fn an_event_that_changes_several_keys_is_told_once() {
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&running.postgres, 0, &[1]).await;
    stream.versions(1).await;
    let another_key = "insert into rm_test_board_e1.changes
        select tenant, 'b', topic, partition, 1, 'main/task/5', 2 from rm_test_board_e1.changes";
    sqlx::query(another_key)
        .execute(&running.postgres)
        .await
        .unwrap();
    board::change(&running.postgres, 0, &[5]).await;
    let told = stream.expect("change").await;
    assert_eq!((told.keys(), told.version()), (vec!["5", "b"], 2));
    running.stop().await;
}

#[tokio::test]
async fn who_comes_back_to_a_database_that_was_set_back_misses_nothing() {
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&running.postgres, 0, &[1, 2, 3]).await;
    assert_eq!(stream.versions(1).await, [1]);
    let first = stream.last_event_id.clone();
    assert_eq!(stream.versions(2).await, [2, 3]);
    // As a crash of Postgres does it, or a new database that is built from the log.
    sqlx::raw_sql(
        r#"update annals.checkpoints set next_offset = 1 where partition = 0;
           delete from rm_test_board_e1.changes where "offset" >= 1"#,
    )
    .execute(&running.postgres)
    .await
    .unwrap();
    // The tail is where the others have heard everything.
    let mut again = EventStream::open(&running, LIST, Some(&first)).await;
    board::change(&running.postgres, 0, &[2]).await;
    board::change(&running.postgres, 0, &[3]).await;
    board::change(&running.postgres, 0, &[4]).await;
    assert_eq!(again.versions(3).await, [2, 3, 4]);
    assert_eq!(stream.versions(1).await, [4]);
    running.stop().await;
}

#[tokio::test]
async fn who_comes_back_to_a_database_that_begins_anew_hears_nothing_twice() {
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&running.postgres, 0, &[1, 2, 3]).await;
    assert_eq!(stream.versions(3).await, [1, 2, 3]);
    let all = stream.last_event_id.clone();
    drop(stream);
    // The edition is there, and no worker has come to its partitions yet.
    let mut lost: Vec<(i32, uuid::Uuid)> = Vec::new();
    for partition in 0..2 {
        let taken = sqlx::query_as(
            "delete from annals.checkpoints where partition = $1 returning partition, topic_id",
        );
        let taken = taken.bind(partition).fetch_one(&running.postgres).await;
        lost.push(taken.unwrap());
    }
    sqlx::query("truncate rm_test_board_e1.changes")
        .execute(&running.postgres)
        .await
        .unwrap();
    let mut again = EventStream::open(&running, LIST, Some(&all)).await;
    for (partition, topic_id) in lost {
        sqlx::query(
            "insert into annals.checkpoints
                 (model, edition, topic, partition, topic_id, next_offset, term)
             values ('test-board', 1, $1, $2, $3, 0, 0)",
        )
        .bind(board::TOPIC)
        .bind(partition)
        .bind(topic_id)
        .execute(&running.postgres)
        .await
        .unwrap();
    }
    for task in 1..=4 {
        board::change(&running.postgres, 0, &[task]).await;
    }
    assert_eq!(again.versions(1).await, [4]);
    running.stop().await;
}

#[tokio::test]
async fn who_is_cut_off_while_partitions_are_built_anew_has_passed_over_none() {
    let running = start_with(|config| config.following.heartbeat_ms = 600_000).await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    let first = stream.last_event_id.clone();
    board::change(&running.postgres, 1, &[1, 2]).await;
    assert_eq!(stream.versions(2).await, [1, 2]);
    begin_anew(&running).await;
    // It waits for partition 1, which the tail has heard of, and sees meanwhile how the other one
    // comes beyond the place of the tail at which it has joined.
    let mut again = EventStream::open(&running, LIST, Some(&first)).await;
    until_it_has_read(&running, 3).await;
    board::change(&running.postgres, 0, &[3]).await;
    until_it_has_read(&running, 3).await;
    board::change(&running.postgres, 1, &[1, 2]).await;
    assert_eq!(again.expect("change").await.keys(), ["1"]);

    let cut_off_here = again.last_event_id.clone();
    assert_eq!(again.expect("change").await.keys(), ["2"]);
    assert_eq!(again.expect("change").await.keys(), ["3"]);
    let mut again = EventStream::open(&running, LIST, Some(&cut_off_here)).await;
    assert_eq!(again.expect("change").await.keys(), ["3"]);
    assert_eq!(again.expect("change").await.keys(), ["2"]);
    running.stop().await;
}

#[tokio::test]
async fn whatever_lies_before_the_tail_is_told_page_by_page() {
    const MANY: usize = 450;
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    let first = stream.last_event_id.clone();
    board::change(&running.postgres, 0, &[1; MANY]).await;
    let all: Vec<_> = (1..=MANY as i64).collect();
    assert_eq!(stream.versions(MANY).await, all);
    begin_anew(&running).await;
    let mut again = EventStream::open(&running, LIST, Some(&first)).await;
    until_it_has_read(&running, 3).await;
    board::change(&running.postgres, 0, &[1; MANY]).await;
    board::change(&running.postgres, 0, &[1]).await;
    assert_eq!(again.versions(MANY).await, all);
    assert_eq!(again.expect("change").await.version(), MANY as i64 + 1);
    running.stop().await;
}

/// As if the database were lost and about to be filled from the log.
async fn begin_anew(running: &Running) {
    sqlx::raw_sql(
        r#"update annals.checkpoints set next_offset = 0;
           truncate rm_test_board_e1.changes"#,
    )
    .execute(&running.postgres)
    .await
    .unwrap();
}

/// Waits until the one who reads changes by itself has begun to do so so many times.
async fn until_it_has_read(running: &Running, times: usize) {
    let last_began = async || -> String {
        let last_began = "select max(query_start)::text from pg_stat_activity
                          where datname = current_database() and query like $1";
        let last_began = sqlx::query_scalar(last_began).bind("%with spans as%");
        last_began.fetch_one(&running.postgres).await.unwrap()
    };
    for _ in 0..times {
        let before = last_began().await;
        until("it has read", async || last_began().await != before).await;
    }
}

#[tokio::test]
async fn what_was_let_out_of_quarantine_is_told_with_the_next_event() {
    let running = start().await;
    board::change(&running.postgres, 0, &[1, 2]).await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    sqlx::query(
        "insert into rm_test_board_e1.changes
         select 'main', '7', $1, 0, 2, 'main/task/7', version from generate_series(11, 12) version",
    )
    .bind(board::TOPIC)
    .execute(&running.postgres)
    .await
    .unwrap();
    board::change(&running.postgres, 0, &[3]).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let change = stream.expect("change").await;
        told.push((change.data["stream"].clone(), change.version()));
        // Who is cut off here hears the rest, if with what it has heard.
        let mut again = EventStream::open(&running, LIST, Some(&stream.last_event_id)).await;
        if told.len() < 3 {
            assert_eq!(again.versions(3).await, [3, 11, 12]);
        }
    }
    let of = |stream: &str, version| (json!(stream), version);
    let expected = [
        of("main/task/3", 3),
        of("main/task/7", 11),
        of("main/task/7", 12),
    ];
    assert_eq!(told, expected);
    let mut seven = EventStream::open(&running, "/v1/tasks?since=beginning", None).await;
    assert_eq!(seven.versions(5).await, [1, 2, 3, 11, 12]);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_with_the_reason() {
    let running = start().await;
    board::change(&running.postgres, 0, &[1]).await;
    let follow = async |path: &str| answered(asked(&running, path, None)).await;
    problem(follow("/v1/tasks/4711").await, 404, "task-not-found").await;
    problem(follow("/v1/tasks?wait=x").await, 422, "invalid-field").await;
    problem(
        follow("/v1/tasks?colour=red").await,
        422,
        "unknown-parameter",
    )
    .await;
    for position in ["x", "W10", "%27%20or%201%3D1--", &"A".repeat(7000)] {
        let path = format!("{LIST}?since={position}");
        problem(follow(&path).await, 400, "position-malformed").await;
    }
    let not_the_streams = 1 - partition_of("main/task/1");
    for elsewhere in [
        token(board::TOPIC, 99, 0),
        token(board::TOPIC, 2, 0),
        token_of("main/task/1", not_the_streams, 0),
    ] {
        let path = format!("{LIST}?since={elsewhere}");
        problem(follow(&path).await, 400, "position-impossible").await;
    }
    for wait in ["-1", "61", "10000000000000000000000", "", "1.5"] {
        let path = format!("{LIST}?wait={wait}");
        problem(running.get(&path).await, 422, "invalid-field").await;
    }
    let position = token(board::TOPIC, 0, 0);
    let idle = format!("{LIST}?since={position}");
    problem(running.get(&idle).await, 422, "invalid-field").await;
    let without_token = running.request(LIST).header("accept", "text/event-stream");
    problem(without_token.send().await.unwrap(), 401, "token-missing").await;
    let no_handshake = asked(&running, LIST, None).header("upgrade", "websocket");
    problem(no_handshake.send().await.unwrap(), 400, "upgrade-malformed").await;
    // A route that nobody made followable answers as ever.
    let counts = "/v1/slow?wait=1";
    problem(running.get(counts).await, 422, "unknown-parameter").await;
    running.stop().await;
}

#[tokio::test]
async fn changes_that_are_not_kept_any_more_are_not_passed_over_in_silence() {
    let running = start().await;
    board::change(&running.postgres, 0, &[1, 2, 3]).await;
    let mut stream = EventStream::open(&running, "/v1/tasks?since=beginning", None).await;
    stream.versions(1).await;
    let first = stream.last_event_id.clone();
    sqlx::query("update annals.checkpoints set changes_from = 2 where partition = 0")
        .execute(&running.postgres)
        .await
        .unwrap();
    for since in [&first, "beginning"] {
        let refused = answered(asked(&running, LIST, Some(since))).await;
        problem(refused, 410, "position-too-old").await;
        let path = format!("{LIST}?wait=1&since={since}");
        problem(running.get(&path).await, 410, "position-too-old").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn heartbeats_move_the_position_of_who_hears_nothing() {
    let running = start_with(|config| config.following.heartbeat_ms = 20).await;
    board::project(&running.postgres, 1, &[(1, "one")]).await;
    let mut one = EventStream::open(&running, "/v1/tasks/1", None).await;
    one.expect("state").await;
    board::change(&running.postgres, 0, &[2]).await;
    one.until_moved().await;
    let mut all = EventStream::open(&running, LIST, Some(&one.last_event_id)).await;
    board::change(&running.postgres, 0, &[3]).await;
    assert_eq!(all.versions(1).await, [3]);
    running.stop().await;
}

#[tokio::test]
async fn a_burst_does_not_lose_those_who_read() {
    let running = start_with(|config| config.following.queue = 16).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = EventStream::open(&running, LIST, None).await;
        stream.expect("state").await;
        streams.push(stream);
    }
    let tasks: Vec<_> = (1..=4_000).collect();
    board::change(&running.postgres, 0, &tasks).await;
    let expected: Vec<_> = (1..=4_000).collect();
    for versions in join_all(streams.iter_mut().map(|it| it.versions(4_000))).await {
        assert_eq!(versions, expected);
    }
    running.stop().await;
}

#[tokio::test]
async fn who_stays_behind_is_dropped_with_a_position_to_go_on_from() {
    // More than sockets hold, and few enough that nobody is cut off while they are heard.
    const CHANGES: usize = 20_000;
    let running = start_with(|config| {
        config.following.queue = 64;
        config.following.catch_up_ms = 0;
    })
    .await;
    let mut slow = Socket::open_small(&running, LIST).await;
    slow.expect("state").await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    // So much that neither the queue nor the socket takes it, which nobody reads for now.
    let tasks: Vec<_> = (1..=CHANGES as i32).collect();
    board::change(&running.postgres, 0, &tasks).await;
    let mut seen = Vec::new();
    while seen.len() < CHANGES {
        // This one may fall behind too, on a busy machine.
        let Some(told) = stream.next().await else {
            let last = stream.last_event_id.clone();
            stream = EventStream::open(&running, LIST, Some(&last)).await;
            continue;
        };
        if told.event == "change" {
            seen.push(told.version());
        }
    }
    let all: Vec<_> = (1..=CHANGES as i64).collect();
    assert_eq!(seen, all);

    let mut seen = Vec::new();
    let position = loop {
        let told = slow.next().await.unwrap();
        if told.event == "end" {
            assert_eq!(told.data["code"], "too-slow");
            break told.position;
        }
        seen.push(told.version());
    };
    assert_eq!(slow.next().await, Err(Some(1013)));
    assert!(seen.len() < CHANGES, "{} were told", seen.len());
    let mut again = EventStream::open(&running, LIST, Some(&position)).await;
    seen.extend(again.versions(CHANGES - seen.len()).await);
    assert_eq!(seen, all);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let running = start_with(|config| {
        config.unread_ms = 300;
        config.following.of_one_address = 1;
    })
    .await;
    let mut deaf = deaf_client(&running, LIST).await;
    // There is no room for another as long as this one is there.
    until("the place is taken", async || {
        asked(&running, LIST, None).send().await.unwrap().status() == 429
    })
    .await;
    let refused = asked(&running, LIST, None).send().await.unwrap();
    problem(refused, 429, "too-many-followers").await;
    let tasks: Vec<_> = (1..=20_000).collect();
    until("it is cut off", async || {
        board::change(&running.postgres, 0, &tasks).await;
        let next = timeout(Duration::from_secs(2), async {
            while asked(&running, LIST, None).send().await.unwrap().status() != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        next.await.is_ok()
    })
    .await;
    // What it has not read before, it may read now; then the connection is over.
    let mut buffer = vec![0; 1 << 20];
    let reading = async { while deaf.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, reading).await.unwrap();
    running.stop().await;
}

/// Asks for a stream of events and does not read what comes.
async fn deaf_client(running: &Running, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    let token = running.token("ada", "main");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn one_address_with_too_many_connections_hears_so() {
    let running = start_with(|config| config.client_connections_of_one_address = 20).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(TcpStream::connect(running.address).await.unwrap());
    }
    // Who is slow to ask is not told why.
    let refused = timeout(PATIENCE, async {
        loop {
            if let Ok(refused) = running.request("/health/live").send().await {
                return refused;
            }
        }
    });
    problem(refused.await.unwrap(), 429, "too-many-connections").await;
    open.clear();
    until("there is room again", async || {
        let answered = running.request("/health/live").send().await;
        answered.is_ok_and(|it| it.status() == 200)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn followers_are_told_from_where_to_go_on_when_the_service_stops() {
    let running = start().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    let mut socket = Socket::open(&running, LIST).await;
    socket.expect("state").await;
    let (_, before) = poll(&running, "/v1/tasks?wait=0").await;
    board::change(&running.postgres, 0, &[1]).await;
    let position = stream.expect("change").await.position;
    socket.expect("change").await;
    let (heard, _) = poll(&running, &format!("/v1/tasks?wait=60&since={before}")).await;
    assert_eq!(heard, [1]);

    let stopping = tokio::spawn(running.stop());
    let end = stream.expect("end").await;
    assert_eq!(
        (&end.position, &end.data["code"]),
        (&position, &json!("stopping"))
    );
    assert!(stream.next().await.is_none());
    assert_eq!(socket.expect("end").await.position, position);
    assert_eq!(socket.next().await, Err(Some(1001)));
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_token_that_expires_ends_the_following() {
    let running = start().await;
    let mut lasts = Duration::from_secs(1);
    let response = loop {
        // One that is over before the request has arrived is of no use.
        lasts *= 2;
        let request = running.request(LIST).header("accept", "text/event-stream");
        let token = running.token_for("ada", "main", lasts);
        let response = answered(request.bearer_auth(token)).await;
        if response.status() != 401 {
            break response;
        }
    };
    let text = timeout(PATIENCE, response.text()).await.unwrap().unwrap();
    assert!(text.contains(r#"{"code":"token-expired""#), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn followers_go_on_in_another_edition() {
    let running = start().await;
    board::build(&running.postgres, 2).await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    for edition in [1, 2] {
        board::change_of("main", edition, &running.postgres, 0, &[1, 2]).await;
    }
    assert_eq!(stream.versions(2).await, [1, 2]);
    board::activate(&running.postgres, 2).await;
    board::change_of("main", 2, &running.postgres, 0, &[3]).await;
    assert_eq!(stream.versions(1).await, [3]);
    // Back to one that is not as far: what was told is not told again.
    board::change(&running.postgres, 0, &[3, 4]).await;
    board::activate(&running.postgres, 1).await;
    assert_eq!(stream.versions(1).await, [4]);
    running.stop().await;
}

/// Many come and go while changes are made in two partitions, and each of them adds up what it
/// was told from one connection to the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_they_come_back_each_hears_everything_once_and_in_order() {
    const CHANGES: usize = 180;
    let running = start_with(|config| {
        config.following.queue = 4;
        config.following.of_one_address = 100;
    })
    .await;
    let hear = async |patience: usize| {
        let mut since = String::from("beginning");
        let mut heard = Vec::new();
        while heard.len() < CHANGES {
            let mut stream = EventStream::open(&running, LIST, Some(&since)).await;
            for _ in 0..patience.min(CHANGES - heard.len()) {
                let told = stream.expect("change").await;
                heard.push((told.keys()[0].to_owned(), told.version()));
            }
            since = stream.last_event_id;
        }
        heard
    };
    let write = async {
        for round in 0..CHANGES / 6 {
            // Streams 0 and 1 in a partition each.
            let partition = round % 2;
            board::change(&running.postgres, partition as i32, &[partition as i32; 6]).await;
        }
    };
    let ask_again = async || {
        let mut since = String::from("beginning");
        let mut heard = Vec::new();
        while heard.len() < CHANGES {
            let page = running
                .get_json(&format!("{LIST}?wait=60&since={since}"))
                .await;
            for change in page["changes"].as_array().unwrap() {
                let key = change["keys"][0].as_str().unwrap().to_owned();
                heard.push((key, change["version"].as_i64().unwrap()));
            }
            since = page["position"].as_str().unwrap().to_owned();
        }
        heard
    };
    let hearing = join_all([3, 7, 30, CHANGES].map(hear));
    let asking = join_all([(); 3].map(|()| ask_again()));
    let (heard, asked, ()) = tokio::join!(hearing, asking, write);
    for heard in heard.into_iter().chain(asked) {
        for stream in ["0", "1"] {
            let of_it = heard.iter().filter(|(key, _)| key == stream);
            let versions: Vec<_> = of_it.map(|(_, version)| *version).collect();
            let all: Vec<_> = (1..=CHANGES as i64 / 2).collect();
            assert_eq!(versions, all, "stream {stream}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn lists_say_that_streams_are_quarantined_and_tokens_of_these_are_refused() {
    let running = start().await;
    board::project(&running.postgres, 9, &[(1, "one")]).await;
    let partition = partition_of("main/task/1");
    let held = format!(
        r#"insert into annals.quarantine (model, edition, topic, stream, partition, "offset", code,
                                          reason, last_offset)
           values ('test-board', 1, '{0}', 'main/task/1', {partition}, 5, 'unreadable', 'x', 8),
                  ('test-board', 1, '{0}', 'acme/task/2', {1}, 5, 'unreadable', 'x', 8);
           update annals.checkpoints set next_offset = 9"#,
        board::TOPIC,
        partition_of("acme/task/2")
    );
    let mut connection = running.postgres.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(held))
        .execute(&mut *connection)
        .await
        .unwrap();
    drop(connection);
    let page = running.get_json(LIST).await;
    assert_eq!(page["quarantined"], 1);
    let read = async |token: &str| running.get(&format!("{LIST}?position={token}")).await;
    // What came before the poisoned event is in the rows.
    let before = read(&token_of("main/task/1", partition, 4)).await;
    assert_eq!(before.status(), 200);
    let refused = read(&token_of("main/task/1", partition, 7)).await;
    let told = problem(refused, 409, "stream-quarantined").await;
    assert_eq!(told["stream"], "main/task/1");
    let forged = read(&token_of("main/task/1", 1 - partition, 7)).await;
    problem(forged, 400, "position-impossible").await;
    // Somebody else's quarantine is nobody's business.
    let elsewhere = read(&token_of("acme/task/2", partition_of("acme/task/2"), 7)).await;
    assert_eq!(elsewhere.status(), 200);
    running.stop().await;
}
