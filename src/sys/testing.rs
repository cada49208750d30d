//! What the tests of this room share: a namespace of the test's own.

use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::Netns;
use super::netlink::{Protocol, Socket};
use super::rtnl::{LinkChange, LinkTarget, set_link};

/// Runs `test` on a thread with network and mount namespaces of its own, or says why it cannot.
pub(crate) fn isolated(test: impl FnOnce() + Send) {
    let finished = thread::scope(|scope| {
        let isolated = || {
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
                println!("skipped: no namespace of its own ({errno})");
                return;
            }
            test();
        };
        scope.spawn(isolated).join()
    });
    if let Err(panic) = finished {
        std::panic::resume_unwind(panic);
    }
}

/// Another network namespace, made on a thread of its own.
pub(crate) fn another() -> Netns {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Netns::current().unwrap()
    });
    made.join().unwrap()
}

/// As [`isolated`], with the loopback device up.
pub(crate) fn on_loopback(test: impl FnOnce() + Send) {
    isolated(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut route = Socket::open(Protocol::Route).unwrap();
        route.transact(&[set_link(LinkTarget::Name("lo"), &up)]).unwrap();
        test();
    });
}
