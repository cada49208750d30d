//! The machine under the benchmark: a private host, container namespaces, and processes started as cheaply as can be.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, mem, process, ptr, thread};

const NETNS: &str = "/run/netns";

/// Ends the benchmark: a number measured after a failure would be a number about something else.
pub(crate) fn die(what: &str) -> ! {
    eprintln!("bench: {what}");
    process::exit(2)
}

fn checked(result: i32, what: &str) {
    if result != 0 {
        die(&format!("{what}: {}", io::Error::last_os_error()));
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| die("NUL in an argument"))
}

/// Leaves the machine: network and mount namespaces of our own, with empty state directories. Everything that the
/// benchmark makes ends with it.
pub(crate) fn isolate() {
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) }, "unshare (root?)");
    mount(c"none", "/", None, libc::MS_REC | libc::MS_PRIVATE);
    // A proc of our own: what the kernel remembers of paths below /proc/sys/net is one list for all namespaces that were
    // asked about, and those of the rest of the machine are not what is measured.
    mount(c"proc", "/proc", Some(c"proc"), 0);
    mount(c"bench", "/run", Some(c"tmpfs"), 0);
    // A machine that never ran CNI has no /var/lib/cni, and gets none from us.
    let state = if Path::new("/var/lib/cni").exists() { "/var/lib/cni" } else { "/var/lib" };
    mount(c"bench", state, Some(c"tmpfs"), 0);
    if fs::create_dir_all(NETNS).and_then(|()| fs::create_dir_all("/var/lib/cni")).is_err() {
        die("state directories");
    }
    Call::new("/usr/sbin/ip", &["ip", "link", "set", "lo", "up"]).run();
}

/// A host of a contender's own, so that no rule, link or record of one weighs on another.
pub(crate) struct Host {
    network: File,
    mounts: File,
}

impl Host {
    /// Makes one, and is in it from then on.
    #[allow(dead_code, reason = "for the runner that compares")]
    pub(crate) fn new(machine: &Host) -> Self {
        machine.enter();
        isolate();
        Self::current()
    }

    /// Where this process is.
    #[allow(dead_code, reason = "for the runner that compares")]
    pub(crate) fn current() -> Self {
        let open = |path: &str| File::open(path).unwrap_or_else(|error| die(&format!("{path}: {error}")));
        Host { network: open("/proc/self/ns/net"), mounts: open("/proc/self/ns/mnt") }
    }

    /// All calls are made there from now on.
    #[allow(dead_code, reason = "for the runner that compares")]
    pub(crate) fn enter(&self) {
        checked(unsafe { libc::setns(self.network.as_raw_fd(), libc::CLONE_NEWNET) }, "setns (network)");
        checked(unsafe { libc::setns(self.mounts.as_raw_fd(), libc::CLONE_NEWNS) }, "setns (mounts)");
    }
}

pub(crate) fn mount(source: &CStr, target: &str, kind: Option<&CStr>, flags: libc::c_ulong) {
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    let result = unsafe { libc::mount(source.as_ptr(), c(target).as_ptr(), kind, flags, ptr::null()) };
    checked(result, target);
}

/// A new network namespace, kept by its path as runtimes keep theirs.
pub(crate) fn namespace(name: &str) -> String {
    let path = format!("{NETNS}/{name}");
    if File::create(&path).is_err() {
        die(&path);
    }
    let target = path.clone();
    let made = thread::spawn(move || {
        checked(unsafe { libc::unshare(libc::CLONE_NEWNET) }, "unshare");
        mount(c"/proc/thread-self/ns/net", &target, None, libc::MS_BIND);
    });
    made.join().unwrap_or_else(|_| die("namespace"));
    path
}

/// Takes the path of a namespace away, and with it the namespace, if nobody is in it.
#[allow(dead_code, reason = "for the runner that compares")]
pub(crate) fn forget_namespace(path: &str) {
    checked(unsafe { libc::umount2(c(path).as_ptr(), libc::MNT_DETACH) }, path);
    if fs::remove_file(path).is_err() {
        die(path);
    }
}

/// One program to run. Everything that can be prepared is prepared before the clock starts.
pub(crate) struct Call {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    stdin: File,
    /// stdout and stderr
    output: File,
}

/// A started [`Call`].
pub(crate) struct Running {
    pid: libc::pid_t,
    call: Call,
}

impl Call {
    /// `arguments` include argv\[0\].
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        Call {
            program: c(program),
            arguments: arguments.iter().map(|a| c(a)).collect(),
            environment: vec![c("PATH=/usr/sbin:/usr/bin:/sbin:/bin")],
            stdin: memory(),
            output: memory(),
        }
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push(c(&format!("{name}={value}")));
        self
    }

    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        if self.stdin.write_all(bytes).and_then(|()| self.stdin.rewind()).is_err() {
            die("stdin");
        }
        self
    }

    /// The same call under `strace`, which counts into `report`.
    pub(crate) fn traced(mut self, strace: &str, report: &str) -> Self {
        let mut arguments: Vec<CString> = [strace, "-fc", "-o", report].iter().map(|a| c(a)).collect();
        arguments.push(mem::replace(&mut self.program, c(strace)));
        arguments.extend(self.arguments.drain(1..));
        self.arguments = arguments;
        self
    }

    /// `posix_spawn` shares the memory until the exec: its cost does not grow with ours, and is the same for all.
    pub(crate) fn start(self) -> Running {
        let pointers = |list: &[CString]| -> Vec<*mut libc::c_char> {
            list.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
        };
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let mut pid = 0;
        unsafe {
            let mut actions: libc::posix_spawn_file_actions_t = mem::zeroed();
            libc::posix_spawn_file_actions_init(&mut actions);
            libc::posix_spawn_file_actions_adddup2(&mut actions, self.stdin.as_raw_fd(), 0);
            libc::posix_spawn_file_actions_adddup2(&mut actions, self.output.as_raw_fd(), 1);
            libc::posix_spawn_file_actions_adddup2(&mut actions, self.output.as_raw_fd(), 2);
            let (program, none) = (self.program.as_ptr(), ptr::null());
            let result = libc::posix_spawn(
                &mut pid,
                program,
                &actions,
                none,
                arguments.as_ptr(),
                environment.as_ptr(),
            );
            libc::posix_spawn_file_actions_destroy(&mut actions);
            checked(result, "posix_spawn");
        }
        Running { pid, call: self }
    }

    /// Runs to the end; the time from before the spawn until the process is reaped, and what it printed.
    pub(crate) fn run(self) -> (Duration, String) {
        let start = Instant::now();
        let running = self.start();
        let status = running.reap();
        (start.elapsed(), running.output(status))
    }

    /// Runs to the end; the page faults that it had, and what it printed. None of them read from a disk.
    #[allow(dead_code, reason = "for the runner that compares")]
    pub(crate) fn faults(self) -> (u64, String) {
        let running = self.start();
        let mut status = 0;
        let mut usage: libc::rusage = unsafe { mem::zeroed() };
        if unsafe { libc::wait4(running.pid, &mut status, 0, &mut usage) } != running.pid {
            die("wait4");
        }
        (u64::try_from(usage.ru_minflt).unwrap_or(0), running.output(status))
    }
}

impl Running {
    /// Its process number.
    #[allow(dead_code, reason = "for the runner that has servers")]
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    pub(crate) fn reap(&self) -> i32 {
        let mut status = 0;
        if unsafe { libc::waitpid(self.pid, &mut status, 0) } != self.pid {
            die("waitpid");
        }
        status
    }

    pub(crate) fn output(mut self, status: i32) -> String {
        let mut text = String::new();
        let file = &mut self.call.output;
        if file.rewind().is_err() || file.read_to_string(&mut text).is_err() {
            die("output");
        }
        if status != 0 {
            let words: Vec<_> = self.call.arguments.iter().map(|a| a.to_string_lossy()).collect();
            die(&format!("{} failed ({status}): {text}", words.join(" ")));
        }
        text
    }
}

fn memory() -> File {
    let fd = unsafe { libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        die("memfd_create");
    }
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// System calls, and processes that were started, in a report of `strace -fc`.
pub(crate) fn counts(report: &str) -> (u64, u64) {
    let text = fs::read_to_string(report).unwrap_or_else(|_| die(report));
    let (mut calls, mut processes) = (0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        // The column of errors is blank where there are none.
        let failed = if words.len() == 6 { number(4) } else { 0 };
        match words.last() {
            Some(&"total") => calls = number(3),
            Some(&"execve") => processes = number(3) - failed,
            _ => {}
        }
    }
    (calls, processes)
}
