//! The real systemd, as process 1 of PID and cgroup namespaces of its own, with the units that are shipped.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::plugin::binary;
use super::space::{Said, run_bounded};
use super::{Lab, eventually, skipped};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const UNITS: &str = "/run/units";
const COMPLAINTS: &str = "/run/complaints";
const LIMIT: Duration = Duration::from_secs(30);

/// What the units of a distribution are waited for, and nothing behind them.
const TARGETS: [&str; 8] = [
    "sysinit.target",
    "basic.target",
    "sockets.target",
    "shutdown.target",
    "network.target",
    "umount.target",
    "emergency.target",
    "lab.target",
];

/// A systemd; it and all that it started end when this is dropped.
pub struct Systemd {
    child: Child,
    pid: u32,
}

impl Systemd {
    /// Boots one in the lab's host, which knows the agent's units and the binary at `/opt/cni/bin`. `None`, and a line
    /// that says why, where there can be none.
    pub fn boot(lab: &Lab) -> Option<Self> {
        if !Path::new(SYSTEMD).exists() {
            skipped("systemd is not installed");
            return None;
        }
        std::fs::create_dir_all(UNITS).unwrap();
        for target in TARGETS {
            std::fs::write(format!("{UNITS}/{target}"), "[Unit]\nDefaultDependencies=no\n").unwrap();
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/systemd");
        for unit in ["linkspan-agent.service", "linkspan-agent.socket"] {
            std::fs::copy(shipped.join(unit), format!("{UNITS}/{unit}")).unwrap();
        }
        // There is no journal.
        std::fs::create_dir_all(format!("{UNITS}/linkspan-agent.service.d")).unwrap();
        let complaints = format!("[Service]\nStandardError=append:{COMPLAINTS}\n");
        std::fs::write(format!("{UNITS}/linkspan-agent.service.d/log.conf"), complaints).unwrap();
        std::fs::create_dir_all("/opt/cni/bin").unwrap();
        super::programs::copy(binary(), "/opt/cni/bin/linkspan");
        let script = format!(
            "mount --make-rprivate / && mount -t proc proc /proc && {{ umount -l /sys/fs/cgroup || true; }} && \
             mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec {SYSTEMD} --system --unit=lab.target \
             --log-target=null --show-status=0"
        );
        let log = std::fs::File::create(lab.work.path().join("systemd")).unwrap();
        let child = lab.host.in_ns(|| {
            Command::new("unshare")
                .args(["-pmfC", "--kill-child", "sh", "-c", &script])
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("container", "lab")
                .env("SYSTEMD_UNIT_PATH", UNITS)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .process_group(0)
                .spawn()
                .unwrap()
        });
        let mut systemd = Self { child, pid: 0 };
        let booted = eventually(LIMIT, || {
            let children = format!("/proc/{0}/task/{0}/children", systemd.child.id());
            let found = std::fs::read_to_string(children).unwrap_or_default();
            systemd.pid = found.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            systemd.pid != 0 && systemd.ctl(&["is-system-running"]).stdout.trim() == "running"
        });
        if !booted {
            let said = systemd.ctl(&["is-system-running"]);
            let log = std::fs::read_to_string(lab.work.path().join("systemd")).unwrap_or_default();
            skipped(&format!(
                "systemd does not boot here: {}{} {log}",
                said.stdout.trim(),
                said.stderr.trim()
            ));
            return None;
        }
        Some(systemd)
    }

    /// `systemctl` with these arguments.
    pub fn ctl(&self, arguments: &[&str]) -> Said {
        self.run(&[&["systemctl", "--no-pager"], arguments].concat())
    }

    /// The same; must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let said = self.ctl(arguments);
        assert!(said.ok, "systemctl {arguments:?}: {}{}\n{}", said.stdout, said.stderr, self.story());
        said.stdout
    }

    /// What the agent's unit says of itself under a name.
    pub fn show(&self, property: &str) -> String {
        self.must(&["show", "--value", "-p", property, "linkspan-agent.service"]).trim().to_owned()
    }

    /// How the unit is, for messages.
    pub fn story(&self) -> String {
        let status = self.ctl(&["status", "-l", "linkspan-agent.service", "linkspan-agent.socket"]).stdout;
        status + &std::fs::read_to_string(COMPLAINTS).unwrap_or_default()
    }

    /// Runs a command in its namespaces.
    pub fn run(&self, argv: &[&str]) -> Said {
        let pid = self.pid.to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-p", "-m", "-n", "-C"]).args(argv).env("SYSTEMD_UNIT_PATH", UNITS);
        run_bounded(&mut command, None, LIMIT)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With process 1 ends every process of its namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
