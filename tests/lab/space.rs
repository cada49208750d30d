//! Network namespaces, entered by a closure on a thread that ends with it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// How long a command may take, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

/// A network namespace, held open.
#[derive(Clone)]
pub struct Space {
    name: String,
    file: Arc<File>,
}

/// What a command said.
pub struct Said {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Said {
    /// It succeeded and its output has this.
    #[track_caller]
    pub fn tells(&self, part: &str) {
        assert!(self.ok && self.stdout.contains(part), "no {part}: {}{}", self.stdout, self.stderr);
    }
}

impl Space {
    /// The namespace that this thread is in.
    pub fn here(name: &str) -> Self {
        let file = File::open("/proc/thread-self/ns/net").expect("a thread knows its namespace");
        Self { name: name.to_owned(), file: Arc::new(file) }
    }

    /// A new namespace with its loopback up.
    pub fn create(name: &str) -> Self {
        let space = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
                Self::here(name)
            });
            made.join().expect("a thread in a namespace of its own")
        });
        space.ip("link set lo up");
        space
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to enter it by, for a child that does so itself.
    pub fn descriptor(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Runs a closure inside.
    pub fn in_ns<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
                inside()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A TCP listener inside.
    pub fn listener(&self, at: &str) -> TcpListener {
        self.bound(at, |at| TcpListener::bind(at))
    }

    /// A UDP socket inside.
    pub fn datagrams(&self, at: &str) -> UdpSocket {
        self.bound(at, |at| UdpSocket::bind(at))
    }

    /// A socket that was closed a moment ago may still be in a child that another thread has just begun, until that
    /// becomes its program: such a port is waited for.
    fn bound<T: Send>(&self, at: &str, bind: impl Fn(&str) -> io::Result<T> + Sync) -> T {
        let end = Instant::now() + LIMIT;
        self.in_ns(|| {
            loop {
                match bind(at) {
                    Ok(socket) => return socket,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("{} cannot bind {at}: {error}", self.name),
                }
            }
        })
    }

    /// Runs a command inside, for at most a minute.
    pub fn exec(&self, argv: &[&str]) -> Said {
        self.in_ns(|| run_bounded(Command::new(argv[0]).args(&argv[1..]), None, LIMIT))
    }

    /// Runs a command inside that must succeed, and returns its output.
    pub fn must(&self, argv: &[&str]) -> String {
        let said = self.exec(argv);
        assert!(said.ok, "{}: {argv:?} failed: {}{}", self.name, said.stdout, said.stderr);
        said.stdout
    }

    /// `ip ARGS` inside; must succeed.
    pub fn ip(&self, args: &str) -> String {
        let argv: Vec<&str> = std::iter::once("ip").chain(args.split_whitespace()).collect();
        self.must(&argv)
    }

    /// Feeds text to a command inside; must succeed.
    pub fn feed(&self, argv: &[&str], text: &str) {
        let said =
            self.in_ns(|| run_bounded(Command::new(argv[0]).args(&argv[1..]), Some(text.as_bytes()), LIMIT));
        assert!(said.ok, "{}: {argv:?} failed: {}{}", self.name, said.stdout, said.stderr);
    }

    /// Reads a sysctl inside: `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding`.
    pub fn sysctl(&self, key: &str) -> String {
        let path = sysctl_path(key);
        self.in_ns(|| fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")).trim().to_owned())
    }

    /// Writes a sysctl inside.
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = sysctl_path(key);
        self.in_ns(|| fs::write(&path, value).unwrap_or_else(|e| panic!("{path:?}: {e}")));
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    let relative = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    Path::new("/proc/sys").join(relative)
}

/// Runs a command to its end, or kills it when `limit` is over.
pub fn run_bounded(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Said {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        let _ = std::io::Write::write_all(&mut pipe, bytes);
    }
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?} did not end within {limit:?}");
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    Said { ok: status.success(), stdout: text(stdout), stderr: text(stderr) }
}

/// Reads a pipe to its end on a thread, so that a full pipe stops nobody.
pub fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A container as a runtime has it: an ID, and a namespace under a path.
pub struct Container {
    /// `CNI_CONTAINERID`.
    pub id: String,
    /// `CNI_NETNS`.
    pub path: String,
    space: Space,
}

impl std::ops::Deref for Container {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.space
    }
}

impl Container {
    pub(super) fn create(name: &str) -> Self {
        let space = Space::create(name);
        let path = format!("/run/netns/{name}");
        // A container of the same name, gone before this one: its path is used again.
        let _ = umount2(path.as_str(), MntFlags::MNT_DETACH);
        File::create(&path).expect("/run/netns is writable");
        space.in_ns(|| {
            let nothing = None::<&str>;
            mount(Some("/proc/thread-self/ns/net"), path.as_str(), nothing, MsFlags::MS_BIND, nothing)
                .expect("a namespace can be bound to a path");
        });
        Self { id: format!("container-{name}"), path, space }
    }

    /// Takes the path away, as a runtime does that killed the sandbox first.
    pub fn unbind(&self) {
        let _ = umount2(self.path.as_str(), MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}
