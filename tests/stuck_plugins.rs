//! An IPAM plugin of somebody else's that fails at DEL, or hangs, is the business of its own containers alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use lab::outcome::{address, host_end};
use lab::plugin::v4;
use lab::{Lab, Plugin, eventually, programs};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

/// The longest that is waited for what must happen.
const LIMIT: Duration = Duration::from_secs(30);

/// An IPAM plugin that logs each call. At DEL it hangs for as long as there is a file `hangs`, is slow where there is
/// `slow`, and fails where there is `away`.
struct Pool {
    directory: PathBuf,
    network: Plugin,
}

impl Pool {
    fn new(lab: &Lab) -> Self {
        let directory = lab.work.path().join("pool");
        fs::create_dir_all(&directory).unwrap();
        let script = "#!/bin/sh\nexec 2>/dev/null; here=$(dirname \"$0\"); cat >/dev/null\n\
             echo \"$CNI_COMMAND $CNI_CONTAINERID\" >>$here/log\ncase $CNI_COMMAND in\n\
             ADD) echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"'$(cat $here/address)'\"}]}' ;;\n\
             DEL) while [ -e $here/hangs ]; do sleep 0.02; done; [ ! -e $here/slow ] || sleep 4\n\
             [ ! -e $here/away ] || { echo '{\"cniVersion\":\"1.1.0\",\"code\":11,\"msg\":\"away\"}'; exit 1; } ;;\nesac\n";
        programs::put(directory.join("pool"), script);
        let network = lab.plugin(json!({"name": "pooled", "bridge": "br8", "ipam": {"type": "pool"}}));
        let network = network.env("CNI_PATH", &directory.display().to_string());
        let pool = Self { directory, network };
        pool.give("10.66.0.5/24");
        pool
    }

    fn give(&self, address: &str) {
        fs::write(self.directory.join("address"), address).unwrap();
    }

    /// Whether somebody has called it for a DEL, since the last time that its calls were asked.
    fn is_at_a_del(&self) -> bool {
        eventually(LIMIT, || {
            fs::read_to_string(self.directory.join("log")).is_ok_and(|log| log.contains("DEL"))
        })
    }

    fn set(&self, name: &str) {
        fs::write(self.directory.join(name), "").unwrap();
    }

    fn unset(&self, name: &str) {
        fs::remove_file(self.directory.join(name)).unwrap();
    }

    /// The calls since the last time that this was asked.
    fn calls(&self) -> Vec<String> {
        let log = self.directory.join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        fs::write(&log, "").unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn doomed() -> usize {
    fs::read_dir("/run/linkspan/doomed").map_or(0, Iterator::count)
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_plugin_that_failed_is_asked_again_for_who_wants_it() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b, c, d) = (lab.container("a"), lab.container("b"), lab.container("c"), lab.container("d"));
    let stuck = [pool.network.on(&a), pool.network.on(&b)];
    let other = lab.plugin(json!({"ipam": v4(1)}));
    stuck[0].add().ok();
    pool.give("10.66.0.6/24");
    stuck[1].add().ok();
    pool.set("away");
    pool.calls();
    for plugin in &stuck {
        assert!(plugin.del().refused(110).contains("away"));
    }
    assert_eq!(pool.calls(), [format!("DEL {}", a.id), format!("DEL {}", b.id)], "each for its own");

    let publishing = other.publish(&["8080:80"]);
    publishing.on(&c).add().ok();
    publishing.on(&c).del().ok();
    assert_eq!(pool.calls(), nothing(), "a DEL of another network");
    let result = publishing.on(&c).add().ok();
    // The container dies without a DEL, and another one takes its port.
    lab.ip(&format!("link del {}", host_end(&result)));
    publishing.on(&d).add().ok();
    assert_eq!(pool.calls(), nothing(), "an ADD that takes a dead one's port");

    other.gc(&[(&d.id, "eth0")]).ok();
    assert_eq!(pool.calls().len(), 2, "GC tries everything anew");
    assert_eq!(doomed(), 2);
    stuck[0].del().refused(110);
    assert_eq!(pool.calls(), [format!("DEL {}", a.id)]);
    pool.unset("away");
    stuck[0].del().ok();
    assert_eq!(doomed(), 1);
    lab::cli::linkspan("doctor --fix --yes");
    assert_eq!(doomed(), 0, "and so does who mends the host");
}

/// A runtime kills a DEL whose plugin hangs.
#[test]
fn a_plugin_that_hung_is_asked_again_for_who_wants_it() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (stuck, other) = (pool.network.on(&a), lab.plugin(json!({"ipam": v4(1)})).on(&b));
    stuck.add().ok();
    other.add().ok();
    pool.set("hangs");
    pool.calls();
    let running = stuck.start("DEL");
    assert!(pool.is_at_a_del());
    assert!(running.kill_after(Duration::ZERO), "it waits for the plugin");
    pool.calls();
    other.del().ok();
    assert_eq!(pool.calls(), nothing());
    pool.unset("hangs");
    stuck.del().ok();
    assert_eq!(pool.calls(), [format!("DEL {}", a.id)]);
    assert_eq!(doomed(), 0);
}

/// Of DELs that are taken away together, none waits for the plugin of another; whoever was first.
#[test]
fn nobody_waits_for_the_plugin_of_another() {
    if lab::is_reference() {
        lab::skip!("the reference shares no work");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let names = ["a", "b", "c"].map(|name| lab.container(name));
    let slow = pool.network.on(&names[0]);
    let plain = [&names[1], &names[2]].map(|container| lab.plugin(json!({"ipam": v4(1)})).on(container));
    for slow_is_first in [true, false] {
        pool.set("hangs");
        slow.add().ok();
        plain.iter().for_each(|plugin| drop(plugin.add().ok()));
        pool.calls();
        // All are in one batch: nobody can begin before this is let go.
        let file = File::create("/run/linkspan/reap.lock").unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let first = if slow_is_first { &slow } else { &plain[0] };
        let running = first.start("DEL");
        assert!(eventually(LIMIT, || doomed() == 1));
        // It waits for the lock, and the others for it.
        std::thread::sleep(Duration::from_millis(100));
        let second = if slow_is_first { &plain[0] } else { &slow };
        let (second, third) = (second.start("DEL"), plain[1].start("DEL"));
        assert!(eventually(LIMIT, || doomed() == 3));
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        let (mut hangs, ends) = if slow_is_first { (running, second) } else { (second, running) };
        for running in [ends, third] {
            running.finish().ok();
        }
        assert!(pool.is_at_a_del() && hangs.is_running(), "it waits for its own");
        pool.unset("hangs");
        hangs.finish().ok();
        assert_eq!(pool.calls(), [format!("DEL {}", names[0].id)], "once");
        assert_eq!(doomed(), 0);
    }
}

/// Whoever waited for its end was killed: the batch that has claimed it asks the plugin, after all else.
#[test]
fn a_plugin_that_nobody_waits_for_is_asked_all_the_same() {
    if lab::is_reference() {
        lab::skip!("the reference shares no work");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (dead, other) = (pool.network.on(&a), lab.plugin(json!({"ipam": v4(1)})).on(&b));
    dead.add().ok();
    other.add().ok();
    pool.calls();
    let ready = format!("/run/linkspan/ready/{}:eth0", a.id);
    fs::create_dir_all("/run/linkspan/doomed").unwrap();
    fs::rename(&ready, format!("/run/linkspan/doomed/{}:eth0", a.id)).unwrap();
    other.del().ok();
    assert_eq!(pool.calls(), [format!("DEL {}", a.id)]);
    assert_eq!(doomed(), 0);
}

/// Of several that hang and that nobody waits for, a DEL of something else meets one.
#[test]
fn plugins_that_nobody_waits_for_take_little_of_one_del() {
    if lab::is_reference() {
        lab::skip!("the reference shares no work");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let other = lab.plugin(json!({"ipam": v4(1)})).on(&lab.container("other"));
    let dead = ["a", "b"].map(|name| lab.container(name));
    for (n, container) in dead.iter().enumerate() {
        pool.give(&format!("10.66.0.{}/24", n + 5));
        pool.network.on(container).add().ok();
    }
    other.add().ok();
    for container in &dead {
        let name = format!("{}:eth0", container.id);
        fs::rename(format!("/run/linkspan/ready/{name}"), format!("/run/linkspan/doomed/{name}")).unwrap();
    }
    pool.calls();
    pool.set("slow");
    other.del().ok();
    assert_eq!((pool.calls().len(), doomed()), (1, 1));
    pool.unset("slow");
    other.add().ok();
    other.del().ok();
    assert_eq!((pool.calls().len(), doomed()), (1, 0));
}

/// The record of an ADD that could not undo itself names an address that is another's.
#[test]
fn an_add_that_is_stuck_leaves_another_s_way_out() {
    if lab::is_reference() {
        lab::skip!("the reference asks nobody whose address it is");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let (first, second) = (pool.network.on(&a), pool.network.on(&b));
    let result: Value = first.add().ok();
    pool.set("away");
    assert!(second.add().refused(111).contains("not undone"));
    assert_eq!(doomed(), 1);
    pool.unset("away");
    second.del().ok();
    assert_eq!(doomed(), 0);
    first.prev(&result).check().ok();
}

/// Its namespace is gone, and its link with that; nobody called DEL.
fn dies(lab: &Lab, result: &Value) {
    lab.ip(&format!("link del {}", host_end(result)));
}

/// A pool that has collected a dead container's address itself gives it to the next one, whose ADD meets what the dead one
/// has left in the firewall, and begins anew: the address is the new one's all the time.
#[test]
fn an_add_that_begins_anew_keeps_its_address() {
    if lab::is_reference() {
        lab::skip!("the reference begins nothing anew");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    dies(&lab, &pool.network.on(&a).add().ok());
    pool.calls();
    let result = pool.network.on(&b).add().ok();
    assert_eq!(address(&result, 4), "10.66.0.5");
    assert_eq!(pool.calls(), [format!("ADD {}", b.id)]);

    let own = lab.plugin(json!({"name": "own", "bridge": "br9", "ipam": v4(1)}));
    let (c, d, e) = (lab.container("c"), lab.container("d"), lab.container("e"));
    let result = own.on(&c).add().ok();
    dies(&lab, &result);
    let lease = |address: &str| format!("/run/linkspan/ipam/own/{address}");
    fs::remove_file(lease(&address(&result, 4))).unwrap();
    fs::remove_file("/run/linkspan/ipam/own/last_reserved_ip.0").unwrap();
    let second = own.on(&d).add().ok();
    assert_eq!(address(&second, 4), address(&result, 4));
    assert!(fs::exists(lease(&address(&second, 4))).unwrap(), "it is held");
    assert_ne!(address(&own.on(&e).add().ok(), 4), address(&second, 4));
    own.on(&d).prev(&second).check().ok();
}

/// Who takes the port or the address of a dead container ends what that has on the host, and asks nobody's plugin.
#[test]
fn the_plugin_of_a_dead_container_keeps_nobody() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|name| lab.container(name));
    let (first, second) = (pool.network.on(&a).publish(&["8080:80"]), pool.network.on(&b));
    dies(&lab, &first.add().ok());
    pool.give("10.66.0.6/24");
    let dead = second.add().ok();
    for name in ["hangs", "away"] {
        pool.set(name);
    }
    pool.calls();
    let other = lab.plugin(json!({"ipam": v4(1)}));
    other.on(&c).publish(&["8080:80"]).add().ok();
    // What is met in the firewall is met by all that died.
    dies(&lab, &dead);
    let ranged =
        json!({"type": "static", "addresses": [{"address": "10.66.0.6/24", "gateway": "10.66.0.1"}]});
    lab.plugin(json!({"name": "fixed", "bridge": "br9", "ipam": ranged})).on(&d).add().ok();
    assert_eq!(pool.calls(), nothing());
    assert_eq!(doomed(), 2, "their addresses are the plugin's to free");
    assert_eq!(fs::read_dir("/run/linkspan/pending").unwrap().count(), 0);

    pool.unset("hangs");
    first.del().refused(110);
    // Of the other one too, whose plugin nobody has asked yet: after its own, and once.
    assert_eq!(pool.calls(), [format!("DEL {}", a.id), format!("DEL {}", b.id)]);
    assert_eq!(doomed(), 2);
    pool.unset("away");
    first.del().ok();
    second.del().ok();
    assert_eq!(pool.calls(), [format!("DEL {}", a.id), format!("DEL {}", b.id)]);
    assert_eq!(doomed(), 0);
    other.on(&e).add().ok();
}

/// An ADD that was killed: the next one undoes it, and leaves its plugin to who holds no lock.
#[test]
fn the_plugin_of_an_add_that_was_killed_is_asked_without_the_lock() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let result = pool.network.on(&a).add().ok();
    let name = format!("{}:eth0", a.id);
    fs::rename(format!("/run/linkspan/ready/{name}"), format!("/run/linkspan/pending/{name}")).unwrap();
    pool.calls();
    let other = lab.plugin(json!({"ipam": v4(1)})).on(&b);
    other.add().ok();
    assert_eq!(pool.calls(), nothing());
    assert_eq!(doomed(), 1);
    assert!(!lab.host.exec(&["ip", "link", "show", &host_end(&result)]).ok, "its link is gone");
    other.del().ok();
    assert_eq!(pool.calls(), [format!("DEL {}", a.id)], "its address is not forgotten");
    assert_eq!(doomed(), 0);
}

/// The plugin knows an attachment by its name: what the dead one had is given back before the new one gets anything, and
/// nobody else waits for it.
#[test]
fn the_plugin_of_the_same_attachment_is_asked_before_it_gives_again() {
    if lab::is_reference() {
        lab::skip!("the reference has no records");
    }
    let Some(lab) = Lab::new() else { return };
    let pool = Pool::new(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let same = pool.network.on(&a);
    dies(&lab, &same.add().ok());
    pool.set("hangs");
    pool.calls();
    let running = same.start("ADD");
    assert!(pool.is_at_a_del());
    lab.plugin(json!({"ipam": v4(1)})).on(&b).add().ok();
    pool.unset("hangs");
    running.finish().ok();
    assert_eq!(pool.calls(), [format!("DEL {}", a.id), format!("ADD {}", a.id)]);
    assert_eq!(doomed(), 0);
}
