use super::*;
use crate::evidence::{Connection, Fact, FileWrite, Writer};
use crate::normalize::time::Timestamp;

/// How much a host stores of all kinds together.
const PLACES: usize = 64;

fn at(ms: i64, fact: Fact) -> Rc<Evidence> {
    Rc::new(Evidence {
        time: Timestamp { ms, zoned: true },
        record_id: None,
        event_id: 0,
        fact,
    })
}

fn connection(ms: i64, last: u8) -> Rc<Evidence> {
    at(
        ms,
        Fact::Connection(Connection {
            remote: [10, 0, 0, last].into(),
            remote_port: None,
            local_port: 445,
            program: "system".into(),
            process_guid: None,
        }),
    )
}

fn file(ms: i64, path: &str, writer: Writer) -> Rc<Evidence> {
    at(
        ms,
        Fact::FileWrite(FileWrite::new(path.into(), writer, false)),
    )
}

fn put(store: &mut EvidenceStore, evidence: &Rc<Evidence>) -> Put {
    let mut clock = Clock::default();
    clock.observe(evidence.time.ms);
    store.put(evidence, PLACES, &clock, 120_000, 2_000)
}

#[test]
fn a_flood_of_one_kind_evicts_neither_other_kinds_nor_evidence_of_incidents() {
    let mut store = EvidenceStore::default();
    let dropped = file(0, r"C:\Windows\a.exe", Writer::System);
    let joined = connection(0, 250);
    put(&mut store, &dropped);
    put(&mut store, &joined);
    store.join(&joined);
    for n in 0..200 {
        put(&mut store, &connection(i64::from(n) * 10, n));
    }
    assert_eq!(
        store.of(EvidenceKind::Connection).count(),
        EvidenceKind::Connection.room(PLACES)
    );
    assert!(
        store
            .of(EvidenceKind::Connection)
            .any(|evidence| Rc::ptr_eq(evidence, &joined))
    );
    assert!(
        store
            .of(EvidenceKind::FileWrite)
            .any(|evidence| Rc::ptr_eq(evidence, &dropped))
    );
}

#[test]
fn worthless_files_go_before_programs_that_came_over_smb() {
    let mut store = EvidenceStore::default();
    let dropped = file(0, r"C:\Windows\a.exe", Writer::System);
    put(&mut store, &dropped);
    for n in 0..100 {
        put(
            &mut store,
            &file(n * 10, &format!(r"C:\share\{n}.txt"), Writer::System),
        );
        put(
            &mut store,
            &file(
                n * 10,
                &format!(r"C:\app\{n}.dll"),
                Writer::Process("x".into()),
            ),
        );
    }
    assert_eq!(store.len(), EvidenceKind::FileWrite.room(PLACES));
    assert!(
        store
            .of(EvidenceKind::FileWrite)
            .any(|evidence| Rc::ptr_eq(evidence, &dropped))
    );
}

#[test]
fn evidence_of_incidents_does_not_give_way_to_what_is_worth_less() {
    let mut store = EvidenceStore::default();
    let room = EvidenceKind::FileWrite.room(PLACES) as i64;
    let copied = |n: i64| file(n * 10, &format!(r"C:\{n}.exe"), Writer::System);
    for n in 0..room {
        let joined = copied(n);
        put(&mut store, &joined);
        store.join(&joined);
    }
    let installed = file(500, r"C:\app\x.dll", Writer::Process("x".into()));
    assert!(matches!(put(&mut store, &installed), Put::NoRoom));
    assert!(matches!(
        put(&mut store, &copied(100)),
        Put::Stored { evicted: 1 }
    ));
}

#[test]
fn evidence_of_incidents_is_evicted_last() {
    let mut store = EvidenceStore::default();
    let joined = file(0, r"C:\share\a.docx", Writer::System);
    put(&mut store, &joined);
    store.join(&joined);
    for n in 1..40 {
        put(
            &mut store,
            &file(n * 10, &format!(r"C:\{n}.exe"), Writer::System),
        );
    }
    assert_eq!(
        store.of(EvidenceKind::FileWrite).count(),
        EvidenceKind::FileWrite.room(PLACES)
    );
    assert!(
        store
            .of(EvidenceKind::FileWrite)
            .any(|evidence| Rc::ptr_eq(evidence, &joined))
    );
}

#[test]
fn evidence_of_less_worth_does_not_evict_others() {
    let mut store = EvidenceStore::default();
    for n in 0..EvidenceKind::FileWrite.room(PLACES) as i64 {
        put(
            &mut store,
            &file(n * 10, &format!(r"C:\{n}.exe"), Writer::System),
        );
    }
    let first = Rc::clone(store.of(EvidenceKind::FileWrite).next().unwrap());
    assert!(matches!(
        put(&mut store, &file(200, r"C:\share\a.docx", Writer::System)),
        Put::NoRoom
    ));
    assert!(
        store
            .of(EvidenceKind::FileWrite)
            .any(|evidence| Rc::ptr_eq(evidence, &first))
    );
    // What is worth as much takes the place of the oldest.
    assert!(matches!(
        put(&mut store, &file(300, r"C:\b.exe", Writer::System)),
        Put::Stored { evicted: 1 }
    ));
    assert!(
        !store
            .of(EvidenceKind::FileWrite)
            .any(|evidence| Rc::ptr_eq(evidence, &first))
    );
}

/// A host that was silent for a while has a new watermark. Evidence from before it must not hold the places.
#[test]
fn evidence_from_before_a_silence_is_evicted_first() {
    let (mut store, mut clock) = (EvidenceStore::default(), Clock::default());
    let mut put = |evidence: &Rc<Evidence>, join: bool| {
        clock.observe(evidence.time.ms);
        store.put(evidence, PLACES, &clock, 310_000, 2_000);
        if join {
            store.join(evidence);
        }
        store
            .of(EvidenceKind::FileWrite)
            .cloned()
            .collect::<Vec<_>>()
    };
    for n in 0..EvidenceKind::FileWrite.room(PLACES) as i64 {
        put(&file(n * 10, &format!(r"C:\{n}.exe"), Writer::System), true);
    }
    let dropped = file(1_500_000, r"C:\Windows\a.exe", Writer::System);
    put(&dropped, false);
    let document = file(1_500_500, r"C:\share\b.docx", Writer::System);
    let kept = put(&document, false);
    assert!(kept.iter().any(|evidence| Rc::ptr_eq(evidence, &dropped)));
    assert!(kept.iter().any(|evidence| Rc::ptr_eq(evidence, &document)));
}

#[test]
fn evicted_bytes_are_no_longer_counted() {
    let mut store = EvidenceStore::default();
    for n in 0..100 {
        put(&mut store, &connection(n * 5_000, (n % 7) as u8));
        put(
            &mut store,
            &file(n * 5_000, &format!(r"C:\{n}.exe"), Writer::System),
        );
    }
    assert!(store.bytes() > 0);
    while store.evict_one() {}
    assert_eq!((store.bytes(), store.len()), (0, 0));
}

#[test]
fn evidence_logged_twice_is_stored_once() {
    let mut store = EvidenceStore::default();
    assert!(matches!(
        put(&mut store, &connection(0, 1)),
        Put::Stored { .. }
    ));
    assert!(matches!(
        put(&mut store, &connection(1_500, 1)),
        Put::Duplicate
    ));
    for n in 1..10 {
        assert!(matches!(
            put(&mut store, &connection(n * 3_000, 1)),
            Put::Stored { .. }
        ));
    }
    assert_eq!(store.len(), ALIKE);
}
