use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;

fn stage(state: &State, id: &str) -> Option<Stage> {
    state.find::<Value>(&key(id)).unwrap().map(|found| found.stage)
}

#[test]
fn a_record_goes_from_pending_to_ready_to_doomed_and_is_forgotten() {
    let (_base, state) = state();
    assert_eq!(stage(&state, "a"), None);
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Unknown);
    let pending = state.write_pending(&record("a")).unwrap();
    assert_eq!(stage(&state, "a"), Some(Stage::Pending { alive: true }));
    pending.ready().unwrap();
    let found = state.find::<Value>(&key("a")).unwrap().unwrap();
    assert_eq!(found, Found { stage: Stage::Ready, record: record("a") });
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
    assert_eq!(claim(&state).0.listed.found.len(), 1);
    state.forget(&key("a")).unwrap();
    state.forget(&key("a")).unwrap();
    assert!(state.keys().unwrap().is_empty());
}

#[test]
fn a_pending_record_is_alive_until_its_writer_lets_go_also_across_a_rewrite() {
    let (_base, state) = state();
    let mut pending = state.write_pending(&record("a")).unwrap();
    assert!(matches!(state.write_pending(&record("a")), Err(StoreError::RecordExists { .. })));
    let mut changed = record("a");
    changed.network = "other".to_owned();
    pending.rewrite(&changed).unwrap();
    let found = state.find::<Value>(&key("a")).unwrap().unwrap();
    assert_eq!((found.stage, found.record), (Stage::Pending { alive: true }, changed));
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Alive);
    assert!(state.dead_pending::<Value>().unwrap().found.is_empty());
    drop(pending);
    assert_eq!(state.dead_pending::<Value>().unwrap().found.len(), 1);
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
    assert_eq!(stage(&state, "a"), Some(Stage::Doomed));
}

#[test]
fn a_rewritten_record_never_looks_dead() {
    let (base, state) = state();
    let root = base.path().join("run/linkspan");
    let mut pending = state.write_pending(&record("a")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut looks = 0;
            let other = State::open(&root).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || looks < 100 {
                assert_eq!(stage(&other, "a"), Some(Stage::Pending { alive: true }));
                looks += 1;
            }
        });
        for _ in 0..2000 {
            pending.rewrite(&record("a")).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_record_never_looks_dead_on_its_way() {
    let (base, state) = state();
    let root = base.path().join("run/linkspan");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let other = State::open(&root).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let dead = other.dead_pending::<Value>().unwrap();
                    assert!(dead.found.is_empty() && dead.broken.is_empty(), "{dead:?}");
                }
            });
        }
        for _ in 0..3000 {
            state.write_pending(&record("a")).unwrap().ready().unwrap();
            state.write_pending(&record("b")).unwrap().forget().unwrap();
            assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_failed_add_forgets_or_dooms_its_record() {
    let (_base, state) = state();
    state.write_pending(&record("a")).unwrap().forget().unwrap();
    assert_eq!(stage(&state, "a"), None);
    state.write_pending(&record("b")).unwrap().doom().unwrap();
    assert_eq!(stage(&state, "b"), Some(Stage::Doomed));
}

#[test]
fn a_broken_record_is_told_and_hides_no_other() {
    let (base, state) = state();
    state.write_pending(&record("a")).unwrap().ready().unwrap();
    let ready = base.path().join("run/linkspan/ready");
    std::fs::write(ready.join("b:eth0"), "{\"version\":1,").unwrap();
    let mut later = serde_json::to_value(record("c")).unwrap();
    later["version"] = 99.into();
    std::fs::write(ready.join("c:eth0"), later.to_string()).unwrap();
    let listed = state.all::<Value>().unwrap();
    assert_eq!((listed.found.len(), listed.broken.len()), (1, 2));
    assert!(
        listed
            .broken
            .iter()
            .any(|broken| broken.key == Some(key("b")) && broken.path == ready.join("b:eth0"))
    );
    assert!(matches!(state.find::<Value>(&key("b")), Err(StoreError::Broken { .. })));
    assert_eq!(state.doom(&key("b")).unwrap(), Doom::Doomed);
    state.forget(&key("b")).unwrap();
    assert_eq!(state.keys().unwrap().len(), 2);
}

#[test]
fn nothing_but_the_owner_may_read_and_names_stay_inside() {
    let (base, state) = state();
    state.write_pending(&record("a")).unwrap().ready().unwrap();
    let mode = |path: &str| std::fs::metadata(base.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run/linkspan"), mode("run/linkspan/ready")), (0o700, 0o700));
    assert_eq!(mode("run/linkspan/ready/a:eth0"), 0o600);
    for id in ["../../etc/x", "", ".hidden", &"a".repeat(240)] {
        assert!(
            matches!(state.find::<Value>(&AttachmentKey::new(id, "e/x")), Err(StoreError::BadName { .. })),
            "{id}"
        );
    }
    assert!(state.find::<Value>(&AttachmentKey::new("a".repeat(200), "a23456789012345")).unwrap().is_none());
}

#[test]
fn network_records_are_replaced_whole_and_read_with_defaults() {
    let (base, state) = state();
    assert_eq!(state.network("web").unwrap(), None);
    let long = "n".repeat(300);
    for name in ["web", &long] {
        let network = super::network(name, "lks-web");
        state.put_network(&network).unwrap();
        state.put_network(&network).unwrap();
        assert_eq!(state.network(name).unwrap(), Some(network));
    }
    let directory = base.path().join("run/linkspan/networks");
    std::fs::write(
        directory.join("old.json"),
        "{\"name\":\"old\",\"bridge\":\"b\",\"backend\":\"nftables\"}",
    )
    .unwrap();
    std::fs::write(directory.join("torn.json"), "{").unwrap();
    let (records, broken) = state.networks().unwrap();
    assert_eq!((records.len(), broken.len()), (3, 1));
    assert!(state.network("torn").is_err());
    assert!(state.network("../x").is_err());
}

#[test]
fn a_lock_is_exclusive_and_a_deadline_ends_the_wait() {
    let (base, state) = state();
    let other = State::open(&base.path().join("run/linkspan")).unwrap();
    let guard = state.lock(Deadline::default()).unwrap();
    assert!(other.lock(Deadline(Duration::ZERO)).is_err());
    assert!(other.try_reap_lock().unwrap().is_some(), "another lock");
    let begun = Instant::now();
    let error = other.lock(Deadline(Duration::from_millis(60))).unwrap_err();
    assert!(matches!(error, StoreError::LockTimeout { .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(60));
    drop(guard);
    drop(other.lock(Deadline(Duration::ZERO)).unwrap());
}

#[test]
fn a_state_that_does_not_exist_is_not_made_by_a_look() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("none");
    assert!(State::open_existing(&root).unwrap().is_none());
    assert!(!root.exists());
    assert!(State::open_existing(base.path()).unwrap().unwrap().all::<Value>().unwrap().found.is_empty());
}

/// What is doomed and nobody's, and what was told of that.
fn claim(state: &State) -> (Claimed<Value>, Harvest) {
    let mut claimed = Claimed::default();
    let harvest = state.claim_doomed(Retry::Only(&[]), &mut claimed).unwrap();
    (claimed, harvest)
}

fn keys(claimed: &Claimed<Value>) -> Vec<AttachmentKey> {
    claimed.listed.found.iter().map(|found| found.record.key.clone()).collect()
}

#[test]
fn what_one_has_claimed_no_other_claims_until_it_is_let_go() {
    let (base, state) = state();
    let other = State::open(&base.path().join("run/linkspan")).unwrap();
    assert!(state.try_next_reaper().unwrap().is_none(), "nothing is doomed");
    let doom = |id: &str| {
        state.write_pending(&record(id)).unwrap().ready().unwrap();
        state.doom(&key(id)).unwrap();
    };
    doom("a");
    doom("b");
    let (first, harvest) = claim(&state);
    assert_eq!(keys(&first).len(), 2);
    assert_eq!(harvest, Harvest { claimed: 2, others_at_work: false, more: false });
    doom("c");
    let (mut second, harvest) = claim(&other);
    assert_eq!(keys(&second), [key("c")]);
    assert_eq!(harvest, Harvest { claimed: 1, others_at_work: true, more: false });
    // Who gathers claims what has come, and nothing twice.
    doom("d");
    let harvest = other.claim_doomed(Retry::Only(&[]), &mut second).unwrap();
    assert_eq!(harvest, Harvest { claimed: 1, others_at_work: true, more: false });
    assert_eq!(keys(&second), [key("c"), key("d")]);
    assert_eq!(
        other.claim_doomed(Retry::Only(&[]), &mut second).unwrap(),
        Harvest { claimed: 0, others_at_work: true, more: false }
    );
    state.forget(&key("a")).unwrap();
    drop(first);
    let harvest = other.claim_doomed(Retry::Only(&[]), &mut second).unwrap();
    assert_eq!(harvest, Harvest { claimed: 1, others_at_work: false, more: false });
    assert_eq!(keys(&second), [key("c"), key("d")]);
    let again: Vec<_> = second.again.iter().map(|found| found.record.key.clone()).collect();
    assert_eq!(again, [key("b")], "whoever claimed it first may have let go of what it holds");
    drop(second);
    std::fs::write(base.path().join("run/linkspan/doomed/b:eth0"), "{").unwrap();
    let all = claim(&state).0;
    assert_eq!((all.listed.found.len(), all.again.len(), all.listed.broken.len()), (0, 2, 1));
}

#[test]
fn what_somebody_failed_at_is_claimed_for_who_wants_it() {
    let (base, state) = state();
    let other = State::open(&base.path().join("run/linkspan")).unwrap();
    for id in ["a", "b"] {
        state.write_pending(&record(id)).unwrap().ready().unwrap();
        state.doom(&key(id)).unwrap();
    }
    let (mut first, _) = claim(&state);
    first.mark_tried(&state, &key("a")).unwrap();
    // Who waits for what may take long is not at work.
    first.let_go(&key("b"));
    state.forget(&key("b")).unwrap();
    let (none, harvest) = claim(&other);
    assert!(none.is_empty());
    assert_eq!(harvest, Harvest { claimed: 0, others_at_work: false, more: false });
    drop(first);
    assert!(claim(&other).0.is_empty(), "nobody wants it");
    for retry in [Retry::Only(&[key("b"), key("a")]), Retry::All] {
        let mut claimed = Claimed::<Value>::default();
        other.claim_doomed(retry, &mut claimed).unwrap();
        assert_eq!((claimed.listed.found.len(), claimed.again.len()), (0, 1), "{retry:?}");
    }
}

#[test]
fn a_record_that_was_never_whole_is_not_claimed_as_one() {
    let (_base, state) = state();
    // Its writer has died: whoever comes next takes it away.
    drop(state.write_pending(&record("a")).unwrap());
    assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
    let (claimed, _) = claim(&state);
    assert_eq!((claimed.listed.found.len(), claimed.again.len()), (0, 1));
    drop(claimed);
    // Its writer could not undo it: who wants it gone tries again.
    let mut pending = state.write_pending(&record("b")).unwrap();
    pending.rewrite(&record("b")).unwrap();
    pending.doom().unwrap();
    assert_eq!(claim(&state).0.again.len(), 1, "that of a alone");
    let mut claimed = Claimed::<Value>::default();
    state.claim_doomed(Retry::All, &mut claimed).unwrap();
    assert_eq!((claimed.listed.found.len(), claimed.again.len()), (0, 2));
}

#[test]
fn many_are_claimed_in_turns_and_what_is_wanted_first() {
    let (base, state) = state();
    let doomed = |id: &str| base.path().join("run/linkspan/doomed").join(key(id).to_string());
    for n in 0..600 {
        let id = format!("a{n}");
        state.write_pending(&record(&id)).unwrap().ready().unwrap();
        state.doom(&key(&id)).unwrap();
    }
    std::fs::create_dir(doomed("odd")).unwrap();
    std::os::unix::fs::symlink("/", doomed("link")).unwrap();
    let wanted = [key("a599")];
    let mut claimed = Claimed::<Value>::default();
    let (mut turns, mut names) = (0, Vec::new());
    loop {
        let harvest = state.claim_doomed(Retry::Only(&wanted), &mut claimed).unwrap();
        turns += 1;
        assert!(harvest.claimed <= 256, "{harvest:?}");
        assert!(turns > 1 || claimed.has_had(&wanted[0]), "it is in the first");
        names.extend(keys(&claimed));
        claimed.listed.found.clear();
        claimed.let_all_go();
        if !harvest.more {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!((turns, names.len()), (3, 600), "each once");
    assert_eq!(claimed.strange.len(), 2);
    assert!(claimed.again.is_empty() && claimed.listed.broken.is_empty());
}

#[test]
fn one_waits_for_the_reaper_and_for_all_the_others() {
    let (base, state) = state();
    state.write_pending(&record("a")).unwrap().ready().unwrap();
    state.doom(&key("a")).unwrap();
    let other = State::open(&base.path().join("run/linkspan")).unwrap();
    let reaper = state.try_reap_lock().unwrap().unwrap();
    assert!(other.try_reap_lock().unwrap().is_none());
    let next = other.try_next_reaper().unwrap().unwrap();
    assert!(state.try_next_reaper().unwrap().is_none());
    assert!(other.reap_lock(Deadline(Duration::from_millis(20))).is_err());
    drop(reaper);
    let _reaper = other.reap_lock(Deadline::default()).unwrap();
    drop(next);
    assert!(state.try_next_reaper().unwrap().is_some());
}
