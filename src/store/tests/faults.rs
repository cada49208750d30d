//! Killed writers, full and read-only file systems, many processes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::*;
use crate::model::{Protocol, Publication};

const ROLE: &str = "LINKSPAN_TEST_ROLE";
const ROOT: &str = "LINKSPAN_TEST_ROOT";

/// This test program again, as another process with a part to play; see [`child`].
fn spawn(role: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::faults::child", "--nocapture"])
        .env(ROLE, role)
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test by itself: what the processes do that other tests start.
#[test]
fn child() {
    let (Ok(role), Some(root)) = (std::env::var(ROLE), std::env::var_os(ROOT).map(PathBuf::from)) else {
        return;
    };
    match role.as_str() {
        "count" => count(&root),
        "write" => write_for_ever(&root),
        other => panic!("no role {other}"),
    }
}

fn count(root: &Path) {
    let state = State::open(root).unwrap();
    let counter = root.join("counter");
    for _ in 0..20 {
        let _guard = state.lock(Deadline::default()).unwrap();
        let value: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
        std::fs::write(&counter, (value + 1).to_string()).unwrap();
    }
}

fn write_for_ever(root: &Path) {
    let state = State::open(root).unwrap();
    let leases = state.lease_directory(&root.with_file_name("data").join("web")).unwrap();
    println!("\nwriting");
    for n in 0u64.. {
        let mut record = record(&format!("c{n}"));
        let mut pending = state.write_pending(&record).unwrap();
        let host = format!("0.0.0.0:{}", 1000 + n % 50).parse().unwrap();
        let ports = [Publication { protocol: Protocol::Tcp, host, target: host, count: 1 }];
        state.claim(&ports, &record.key).unwrap();
        let given =
            leases.allocate(&[set("10.1.0.0/24"), set("fd00::/64")], &[], &record.key, unwritten).unwrap();
        record.plan = serde_json::to_value(&given).unwrap();
        pending.rewrite(&record).unwrap();
        let network = super::network("web", &"b".repeat(9));
        state.put_network(&network).unwrap();
        pending.ready().unwrap();
        assert_eq!(state.doom(&record.key).unwrap(), Doom::Doomed);
        leases.release(&given, &record.key).unwrap();
        state.release(&ports, &record.key).1.unwrap();
        state.forget(&record.key).unwrap();
    }
}

#[test]
fn sixty_four_processes_take_the_lock_in_turn() {
    let (_base, state) = state();
    std::fs::write(state.root().join("counter"), "0").unwrap();
    let children: Vec<_> = (0..64).map(|_| spawn("count", state.root())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(std::fs::read_to_string(state.root().join("counter")).unwrap(), (64 * 20).to_string());
}

#[test]
fn a_writer_killed_at_any_instant_leaves_nothing_torn() {
    let (_base, state) = state();
    let path = state.root().with_file_name("data").join("web");
    let mut left = 0;
    for round in 0..120u64 {
        let mut child = spawn("write", state.root());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "writing"), "the writer has begun");
        std::thread::sleep(Duration::from_micros(crate::model::names::hash(&round.to_be_bytes()) % 4000));
        child.kill().unwrap();
        child.wait().unwrap();

        let listed = state.all::<Value>().unwrap();
        assert!(listed.broken.is_empty(), "{:?}", listed.broken);
        assert!(listed.found.iter().all(|found| found.stage != Stage::Pending { alive: true }));
        assert!(state.networks().unwrap().1.is_empty());
        let leases = state.lease_directory(&path).unwrap();
        for lease in leases.leases().unwrap() {
            assert_eq!(lease.owner.interface(), Some("eth0"), "torn: {lease:?}");
            assert!(listed.found.iter().any(|f| f.record.key.container_id == lease.owner.container_id()));
        }
        let keys = state.keys().unwrap();
        assert!(state.claims_of_unknown(|key| keys.contains(key)).unwrap().is_empty());
        left += listed.found.len();
        for key in keys {
            assert_eq!(state.doom(&key).unwrap(), Doom::Doomed);
            leases.release_by_walk(&key).unwrap();
            for claim in state.claims().unwrap() {
                state.drop_claim(&claim).unwrap();
            }
            state.forget(&key).unwrap();
        }
        assert_eq!((leases.count().unwrap(), state.keys().unwrap().len()), (0, 0));
        for stage in ["pending", "ready", "doomed", "ports"] {
            let remains: Vec<_> =
                std::fs::read_dir(state.root().join(stage)).into_iter().flatten().flatten().collect();
            assert!(remains.is_empty(), "{remains:?}");
        }
    }
    assert!(left > 20, "only {left} of 120 kills hit a writer at work");
}

/// Runs a test over a file system of its own, mounted where nobody else sees it.
fn on_tmpfs(options: &'static str, test: impl FnOnce(&Path) + Send + 'static) {
    let worker = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            println!("skipped: no mount namespace: {error}");
            return;
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let base = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), base.path(), Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        test(base.path());
        nix::mount::umount2(base.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
    worker.join().unwrap();
}

fn nothing_works_and_nothing_changes(state: &State, errno: Errno, word: &str) {
    let leases = state.lease_directory(&state.root().join("ipam/web")).unwrap();
    let network = super::network("web", "new");
    let errors = [
        state.write_pending(&record("b")).map(drop).unwrap_err(),
        leases.allocate(&[set("10.1.0.0/24")], &[], &key("b"), unwritten).map(drop).unwrap_err(),
        state.put_network(&network).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.errno(), Some(errno), "{error}");
        assert!(error.advice().unwrap().contains(word), "{:?}", error.advice());
        assert!(error.to_string().contains(state.root().to_str().unwrap()), "{error}");
    }
    assert_eq!(leases.count().unwrap(), 1);
    let listed = state.all::<Value>().unwrap();
    assert_eq!((listed.found.len(), listed.broken.len()), (1, 0));
    assert_eq!(state.network("web").unwrap().unwrap().bridge, "old");
}

fn begin(root: &Path) -> State {
    let state = State::open(&root.join("linkspan")).unwrap();
    state.write_pending(&record("a")).unwrap().ready().unwrap();
    let leases = state.lease_directory(&state.root().join("ipam/web")).unwrap();
    leases.allocate(&[set("10.1.0.0/24")], &[], &key("a"), unwritten).unwrap();
    let network = super::network("web", "old");
    state.put_network(&network).unwrap();
    state
}

#[test]
fn a_full_file_system_is_told_and_what_was_there_stays() {
    on_tmpfs("size=64k", |root| {
        let state = begin(root);
        let filled = std::fs::write(root.join("fill"), vec![0; 65536]).unwrap_err();
        assert_eq!(filled.raw_os_error(), Some(libc::ENOSPC));
        nothing_works_and_nothing_changes(&state, Errno::ENOSPC, "full");
        // What gives space back needs none.
        assert_eq!(state.doom(&key("a")).unwrap(), Doom::Doomed);
        state.forget(&key("a")).unwrap();
    });
}

#[test]
fn a_file_system_without_inodes_is_told() {
    on_tmpfs("size=1m,nr_inodes=24", |root| {
        let state = begin(root);
        let full = (0..40).any(|n| std::fs::write(root.join(n.to_string()), "").is_err());
        assert!(full);
        nothing_works_and_nothing_changes(&state, Errno::ENOSPC, "inodes");
    });
}

#[test]
fn a_read_only_file_system_is_told() {
    on_tmpfs("size=64k", |root| {
        let state = begin(root);
        let (none, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        mount(none, root, none, flags, none).unwrap();
        nothing_works_and_nothing_changes(&state, Errno::EROFS, "read-only");
        assert_eq!(state.lock(Deadline::default()).unwrap_err().errno(), Some(Errno::EROFS));
        assert_eq!(state.doom(&key("a")).unwrap_err().errno(), Some(Errno::EROFS));
        let error = State::open(&root.join("other/linkspan")).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EROFS));
        assert!(error.to_string().contains("other/linkspan"), "{error}");
    });
}
