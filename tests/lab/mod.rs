//! The laboratory: a scratch host of namespaces for one test.
//!
//! The test's own thread moves into network and mount namespaces of its own, with its own `/run`, `/var/lib` and
//! `/sys`; that is the 'host'. Containers and the world outside are further network namespaces, entered by a closure
//! on a thread that ends. Nothing of the machine is touched, and tests run side by side.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::needless_pass_by_value)]

pub mod agent;
pub mod backends;
pub mod beside;
pub mod bpf;
pub mod chain;
pub mod cli;
pub mod damage;
pub mod dns;
pub mod download;
pub mod explain;
pub mod faces;
pub mod firewalld;
pub mod fitness;
pub mod flows;
pub mod frames;
pub mod hold;
pub mod icmp;
pub mod inspect;
pub mod live;
pub mod outcome;
pub mod outside;
pub mod plugin;
pub mod pool;
pub mod programs;
pub mod rows;
pub mod schema;
pub mod snapshot;
pub mod space;
pub mod stage;
pub mod systemd;
pub mod talk;
pub mod town;
pub mod traced;
pub mod witness;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

pub use chain::{Bin, Chain};
pub use outcome::Outcome;
pub use outside::Outside;
pub use plugin::Plugin;
pub use snapshot::Snapshot;
pub use space::{Container, Space};

/// Ends the test as skipped: says why and counts it.
macro_rules! skip {
    ($($why:tt)+) => {{
        $crate::lab::skipped(&format!($($why)+));
        return;
    }};
}
pub(crate) use skip;

/// Prints `skipped: WHY` and appends `test name: WHY` to the file that `LINKSPAN_SKIPPED` names.
pub fn skipped(why: &str) {
    println!("skipped: {why}");
    let Some(path) = std::env::var_os("LINKSPAN_SKIPPED") else { return };
    let file = std::env::current_exe().ok().and_then(|exe| Some(exe.file_stem()?.to_str()?.to_owned()));
    let file = file.as_deref().and_then(|name| name.split('-').next()).unwrap_or("tests").to_owned();
    let thread = std::thread::current();
    let line = format!("{file}::{}: {why}\n", thread.name().unwrap_or("main"));
    let mut log =
        fs::OpenOptions::new().create(true).append(true).open(path).expect("LINKSPAN_SKIPPED is writable");
    log.write_all(line.as_bytes()).expect("LINKSPAN_SKIPPED is writable");
}

/// The scratch host. It belongs to the thread that made it.
pub struct Lab {
    /// The host's network namespace.
    pub host: Space,
    /// A directory of the test's own, outside the namespaces' tmpfs.
    pub work: tempfile::TempDir,
    mounted: Vec<PathBuf>,
    serial: Cell<u32>,
    not_send: PhantomData<*const ()>,
}

impl Lab {
    /// Moves this thread into a host of its own, or counts the test as skipped and returns `None`.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Option<Self> {
        match Self::open() {
            Ok(lab) => Some(lab),
            Err(why) => {
                skipped(&why);
                None
            }
        }
    }

    fn open() -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .map_err(|e| format!("namespaces are refused ({e}); run as root or under `unshare -Urnm`"))?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .map_err(|e| format!("mounts cannot be made private ({e})"))?;
        let work = tempfile::Builder::new().prefix("linkspan-lab").tempdir().map_err(|e| e.to_string())?;
        let mut lab = Self {
            host: Space::here("host"),
            work,
            mounted: Vec::new(),
            serial: Cell::new(0),
            not_send: PhantomData,
        };
        // What a machine has no /opt/cni for would be made in its own /opt.
        let plugins = if Path::new("/opt/cni").is_dir() { "/opt/cni" } else { "/opt" };
        for directory in ["/run", "/var/lib", "/etc/cni", plugins] {
            if Path::new(directory).is_dir() {
                lab.cover(directory, "tmpfs")?;
            }
        }
        lab.cover("/sys", "sysfs")?;
        for directory in ["/run/netns", "/run/lock", "/var/lib/cni"] {
            fs::create_dir_all(directory).map_err(|e| format!("{directory}: {e}"))?;
        }
        lab.ip("link set lo up");
        Ok(lab)
    }

    fn cover(&mut self, directory: &str, kind: &str) -> Result<(), String> {
        mount(Some(kind), directory, Some(kind), MsFlags::empty(), None::<&str>)
            .map_err(|e| format!("{kind} cannot be mounted on {directory} ({e})"))?;
        self.mounted.push(directory.into());
        Ok(())
    }

    /// Mounts a fresh tmpfs of limited size on a directory of the lab (a state directory that fills up).
    pub fn cover_small(&mut self, directory: &str, options: &str) {
        fs::create_dir_all(directory).unwrap();
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        self.mounted.push(directory.into());
    }

    /// Makes a directory of the lab read-only.
    pub fn freeze(&mut self, directory: &str) {
        fs::create_dir_all(directory).unwrap();
        let nothing = None::<&str>;
        mount(Some(directory), directory, nothing, MsFlags::MS_BIND, nothing).unwrap();
        self.mounted.push(directory.into());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(nothing, directory, nothing, flags, nothing).unwrap();
    }

    /// A container: a network namespace with a name under `/run/netns` and its loopback up.
    pub fn container(&self, name: &str) -> Container {
        Container::create(name)
    }

    /// A number that no earlier call gave.
    pub fn next(&self) -> u32 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// The world outside, joined to the host by `uplink`.
    pub fn outside(&self) -> Outside {
        Outside::join(self)
    }

    /// A plugin run with this configuration; see [`Plugin`].
    pub fn plugin(&self, conf: serde_json::Value) -> Plugin {
        Plugin::new(conf)
    }

    /// `ip ARGS` on the host; must succeed.
    pub fn ip(&self, args: &str) {
        self.host.ip(args);
    }

    /// A link to a container that no plugin made: 10.0.0.1 here, 10.0.0.2 there.
    pub fn link_by_hand(&self, container: &Container) {
        self.ip("link add va type veth peer name vb");
        self.ip(&format!("link set vb netns {}", container.name()));
        self.ip("address add 10.0.0.1/24 dev va");
        self.ip("link set va up");
        container.ip("address add 10.0.0.2/24 dev vb");
        container.ip("link set vb up");
    }

    /// Takes all of a new bridge's ports, 1023: both ends of the pairs `a0`-`b0` to `a510`-`b510`, and `a511`.
    pub fn fill_bridge(&self, bridge: &str) {
        use std::fmt::Write;
        let mut batch = String::new();
        for n in 0..512 {
            writeln!(batch, "link add a{n} type veth peer name b{n}\nlink set a{n} master {bridge}").unwrap();
            if n < 511 {
                writeln!(batch, "link set b{n} master {bridge}").unwrap();
            }
        }
        self.host.feed(&["ip", "-batch", "-"], &batch);
    }

    /// Makes `iptables` stand for one of its variants, `nft` or `legacy`, in this lab. False where it cannot be had.
    pub fn iptables(&mut self, variant: &str) -> bool {
        let directory = Path::new("/etc/alternatives");
        let multi = PathBuf::from(format!("/usr/sbin/xtables-{variant}-multi"));
        if !directory.join("iptables-restore").is_symlink() || !multi.exists() {
            return false;
        }
        let links: Vec<(PathBuf, PathBuf)> = fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| Some((entry.as_ref().ok()?.path(), fs::read_link(entry.ok()?.path()).ok()?)))
            .collect();
        self.cover("/etc/alternatives", "tmpfs").unwrap();
        for (link, target) in links {
            let name = link.file_name().unwrap().to_str().unwrap().to_owned();
            let target = if let Some(rest) = name.strip_prefix("iptables") {
                PathBuf::from(format!("/usr/sbin/iptables-{variant}{rest}"))
            } else if let Some(rest) = name.strip_prefix("ip6tables") {
                PathBuf::from(format!("/usr/sbin/ip6tables-{variant}{rest}"))
            } else {
                target
            };
            std::os::unix::fs::symlink(target, link).unwrap();
        }
        let version = Command::new("iptables").arg("-V").output().unwrap();
        String::from_utf8_lossy(&version.stdout).contains(if variant == "nft" {
            "nf_tables"
        } else {
            "legacy"
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        end_all_in_here();
        for directory in self.mounted.iter().rev() {
            let _ = umount2(directory, MntFlags::MNT_DETACH);
        }
    }
}

/// Ends every process that is left in the calling thread's network namespace: an agent that an ADD started, whose last
/// attachment was never detached. Other threads of this program are in other namespaces.
fn end_all_in_here() {
    let Ok(here) = fs::read_link("/proc/thread-self/ns/net") else { return };
    // Never the machine's own.
    if fs::read_link("/proc/1/ns/net").is_ok_and(|machine| machine == here) {
        return;
    }
    let of = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
    let others = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(of);
    for pid in others.filter(|pid| *pid != nix::unistd::getpid().as_raw()) {
        if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|there| there == here) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Whether the binary under test is a stand-in (the reference chain of `tests/reference`), of which not
/// everything can be asked.
pub fn is_reference() -> bool {
    std::env::var_os("LINKSPAN_REFERENCE").is_some()
}

/// Asks until it is so, for at most `limit`; says whether it came to be.
pub fn eventually(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
