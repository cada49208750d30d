//! The real firewalld of this system, with a system bus of its own, inside the lab.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::{Space, eventually};

/// How long its start may take on a busy machine. It is a second on an idle one.
const LIMIT: Duration = Duration::from_secs(30);

/// A running firewalld; it ends, and its bus with it, when this is dropped.
pub struct Firewalld {
    bus: Child,
    daemon: Child,
}

impl Firewalld {
    /// Starts it on the lab's host, with its own defaults: zone `public` for whatever is in no zone. `None`, and the
    /// test counted as skipped, where it is not installed.
    pub fn start() -> Option<Self> {
        for program in ["/usr/sbin/firewalld", "/usr/bin/dbus-daemon", "/usr/bin/firewall-cmd"] {
            if !Path::new(program).exists() {
                super::skipped(&format!("{program} is not here"));
                return None;
            }
        }
        let conf = fs::read_to_string("/etc/firewalld/firewalld.conf").unwrap();
        for directory in ["/etc/firewalld", "/var/log"] {
            mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        }
        fs::write("/etc/firewalld/firewalld.conf", conf).unwrap();
        fs::create_dir_all("/run/dbus").unwrap();
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let bus = quiet(Command::new("dbus-daemon").args(["--system", "--nofork", "--nopidfile"]));
        let is_there = || Path::new("/run/dbus/system_bus_socket").exists();
        assert!(eventually(LIMIT, is_there), "the system bus listens");
        let daemon = quiet(Command::new("firewalld").args(["--nofork", "--nopid"]));
        let firewalld = Self { bus, daemon };
        assert!(eventually(LIMIT, || says("--state").is_some()), "firewalld answers");
        Some(firewalld)
    }

    /// Ends it, as `systemctl stop` does: its rules go, and nobody of its name is on the bus.
    pub fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(eventually(LIMIT, || self.daemon.try_wait().unwrap().is_some()), "it ends");
    }

    /// Starts it again after [`Self::stop`].
    pub fn start_again(&mut self) {
        let mut command = Command::new("firewalld");
        command.args(["--nofork", "--nopid"]).stdin(Stdio::null());
        self.daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(eventually(LIMIT, || says("--state").is_some()), "firewalld answers");
    }

    /// What is in a zone at the moment, one address or interface each.
    pub fn sources(&self, zone: &str) -> Vec<String> {
        let text = says(&format!("--zone={zone} --list-sources")).unwrap_or_default();
        let mut sources: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        sources.sort_unstable();
        sources
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `firewall-cmd ARGS`; `None` where it fails.
pub fn says(arguments: &str) -> Option<String> {
    let said = Command::new("firewall-cmd").args(arguments.split_whitespace()).output().unwrap();
    said.status.success().then(|| String::from_utf8(said.stdout).unwrap().trim().to_owned())
}

/// `firewall-cmd ARGS`, which must succeed.
pub fn must(host: &Space, arguments: &str) {
    let argv: Vec<&str> = std::iter::once("firewall-cmd").chain(arguments.split_whitespace()).collect();
    host.must(&argv);
}
