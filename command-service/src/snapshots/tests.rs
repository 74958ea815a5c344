use super::*;

const LINES: &[u8] = b"counter [\"main/counter/a\",1,0,3]\n";

fn manifest(id: &str, edition: &str) -> Manifest {
    Manifest {
        id: id.into(),
        context: "counting".into(),
        edition: edition.into(),
        extent: Extent {
            next_offset: 7,
            end_offset: 9,
            term: 3,
            forgotten_until: None,
            marked: [1].into(),
        },
        chunks: 2,
        bytes: LINES.len(),
        checksum: checksum(Sha256::new_with_prefix(LINES)),
    }
}

fn put(shelf: &mut Shelf, key: &str, value: &[u8]) {
    shelf.take(key.as_bytes(), Some(value));
}

fn put_snapshot(shelf: &mut Shelf, id: &str, edition: &str) {
    put(shelf, &chunk_key(id, 0), &LINES[..5]);
    put(shelf, &chunk_key(id, 1), &LINES[5..]);
    let manifest = manifest(id, edition);
    let value = serde_json::to_vec(&manifest).unwrap();
    put(shelf, &manifest.key(), &value);
}

fn lines(shelf: &mut Shelf) -> Option<Vec<u8>> {
    let snapshot = shelf.snapshot("counting", "e");
    snapshot.map(|snapshot| snapshot.lines)
}

#[test]
fn the_newest_complete_snapshot_of_the_edition_is_taken() {
    let mut shelf = Shelf::default();
    put_snapshot(&mut shelf, "1.1", "e");
    put_snapshot(&mut shelf, "1.2", "other");
    assert_eq!(lines(&mut shelf).unwrap(), LINES);
    assert!(shelf.snapshot("counting", "unknown").is_none());
    assert!(shelf.snapshot("tasks", "e").is_none());
}

#[test]
fn a_snapshot_that_is_not_whole_is_not_used() {
    type Damage = fn(&mut Shelf);
    let damages: [(&str, Damage); 6] = [
        ("a chunk is missing", |shelf| {
            shelf.take(b"chunk/1.1/1", None);
        }),
        ("a chunk is cut off", |shelf| {
            put(shelf, "chunk/1.1/1", &LINES[5..9]);
        }),
        ("a bit is flipped", |shelf| {
            let mut chunk = LINES[5..].to_vec();
            chunk[3] ^= 1;
            put(shelf, "chunk/1.1/1", &chunk);
        }),
        ("the manifest is none", |shelf| {
            put(shelf, "manifest/counting/e", b"{");
        }),
        ("the manifest is another one's", |shelf| {
            let other = serde_json::to_vec(&manifest("1.1", "other")).unwrap();
            put(shelf, "manifest/counting/e", &other);
        }),
        ("the topic was wiped", |shelf| *shelf = Shelf::default()),
    ];
    for (what, damage) in damages {
        let mut shelf = Shelf::default();
        put_snapshot(&mut shelf, "1.1", "e");
        damage(&mut shelf);
        assert_eq!(lines(&mut shelf), None, "{what}");
    }
}

#[test]
fn what_is_foreign_is_passed_over() {
    let mut shelf = Shelf::default();
    put_snapshot(&mut shelf, "1.1", "e");
    for key in [
        "",
        "chunk",
        "chunk/1.1",
        "chunk/1.1/x",
        "chunk/9.9/0",
        "whatever/a/b",
    ] {
        put(&mut shelf, key, b"foreign");
    }
    shelf.take(&[0xff, 0xfe], Some(b"foreign"));
    assert_eq!(lines(&mut shelf).unwrap(), LINES);
}

#[test]
fn what_no_snapshot_needs_is_cleared_away() {
    let mut shelf = Shelf::default();
    for (id, edition) in [("1.1", "old"), ("1.2", "older"), ("2.1", "e")] {
        put_snapshot(&mut shelf, id, edition);
    }
    put(
        &mut shelf,
        "chunk/1.9/0",
        b"left by an owner that was killed",
    );
    let mut shelf = shelf.emptied();
    let new = manifest("3.1", "e");
    shelf
        .chunks
        .entry("3.1".into())
        .or_default()
        .extend([(0, vec![]), (1, vec![])]);
    let mut gone = shelf.put(new);
    gone.sort();
    assert_eq!(
        gone,
        [
            "chunk/1.1/0",
            "chunk/1.1/1",
            "chunk/1.9/0",
            "chunk/2.1/0",
            "chunk/2.1/1",
            "manifest/counting/old",
        ]
    );
}
