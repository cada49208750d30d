//! For tests: namespaces of the test's own, a plain nf_tables sender, and the tools that read back what it made.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::model::nft::NftMessage;

/// Runs `test` on a thread in network and mount namespaces of its own, with an empty `/run`; says so where it cannot.
pub(crate) fn isolated(tools: &[&str], test: impl FnOnce() + Send + 'static) {
    for tool in tools {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return println!("skipped: {tool} is not installed");
        }
    }
    let thread = std::thread::spawn(move || {
        // SAFETY: plain system calls; only this thread's namespaces change.
        let entered = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } == 0;
        if !entered {
            return println!("skipped: namespaces: {}", std::io::Error::last_os_error());
        }
        run("mount", &["--make-rprivate", "/"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program that must succeed and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    feed(program, arguments, "")
}

/// The same with something on standard input.
pub(crate) fn feed(program: &str, arguments: &[&str], input: &str) -> String {
    let (ok, out, err) = attempt(program, arguments, input);
    assert!(ok, "{program} {arguments:?} failed: {err}\n{input}");
    out
}

/// Runs a program: whether it succeeded, its standard output and its standard error.
pub(crate) fn attempt(program: &str, arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// A netlink socket that sends nf_tables messages one system call each.
pub(crate) struct Sender(std::os::fd::OwnedFd, std::cell::Cell<u32>);

impl Sender {
    pub(crate) fn open() -> Self {
        use std::os::fd::FromRawFd;
        const NETLINK_NETFILTER: i32 = 12;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_NETFILTER);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let deadline = libc::timeval { tv_sec: 2, tv_usec: 0 };
            let size = size_of_val(&deadline) as libc::socklen_t;
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const deadline).cast(), size);
            let room: libc::c_int = 8 << 20;
            for option in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
                let size = size_of_val(&room) as libc::socklen_t;
                libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const room).cast(), size);
            }
            Self(std::os::fd::OwnedFd::from_raw_fd(fd), std::cell::Cell::new(0))
        }
    }

    /// Sends one transaction; the first error's number, where there is one.
    pub(crate) fn commit(&self, messages: &[NftMessage]) -> Result<(), i32> {
        const BEGIN: u16 = 16;
        const END: u16 = 17;
        let sequence = self.next();
        let mut bytes = framed(BEGIN, 0, sequence, [0, 0, 0, 10], &[]);
        for message in messages {
            let kind = 10 << 8 | u16::from(message.kind);
            bytes.extend(framed(
                kind,
                message.flags | 4,
                sequence,
                [message.family, 0, 0, 0],
                &message.attributes,
            ));
        }
        bytes.extend(framed(END, 0, sequence, [0, 0, 0, 10], &[]));
        self.send(&bytes);
        let mut outcome = Ok(());
        let mut left = messages.len();
        while left > 0 {
            for (_, payload) in self.receive(sequence) {
                left -= 1;
                let error = i32::from_ne_bytes(payload[..4].try_into().unwrap());
                if error != 0 && outcome.is_ok() {
                    outcome = Err(-error);
                }
            }
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }

    /// Asks one question; the attributes of the replies, or the error's number.
    pub(crate) fn ask(&self, message: &NftMessage) -> Result<Vec<Vec<u8>>, i32> {
        const ERROR: u16 = 2;
        const DONE: u16 = 3;
        let kind = 10 << 8 | u16::from(message.kind);
        let sequence = self.next();
        self.send(&framed(kind, message.flags | 4, sequence, [message.family, 0, 0, 0], &message.attributes));
        let mut replies = Vec::new();
        loop {
            for (kind, payload) in self.receive(sequence) {
                match (kind, i32::from_ne_bytes(payload[..4].try_into().unwrap())) {
                    (ERROR, 0) | (DONE, _) => return Ok(replies),
                    (ERROR, error) => return Err(-error),
                    _ => replies.push(payload[4..].to_vec()),
                }
            }
        }
    }

    fn next(&self) -> u32 {
        self.1.set(self.1.get() + 1);
        self.1.get()
    }

    fn send(&self, bytes: &[u8]) {
        use std::os::fd::AsRawFd;
        // SAFETY: the buffer is as long as it says.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(bytes.len()), "{}", std::io::Error::last_os_error());
    }

    fn receive(&self, sequence: u32) -> Vec<(u16, Vec<u8>)> {
        use std::os::fd::AsRawFd;
        let mut buffer = vec![0u8; 1 << 20];
        // SAFETY: the buffer is as long as it says.
        let got = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let got = usize::try_from(got).unwrap_or_else(|_| panic!("{}", std::io::Error::last_os_error()));
        let mut bytes = &buffer[..got];
        let mut messages = Vec::new();
        while bytes.len() >= 16 {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(bytes[4..6].try_into().unwrap());
            if bytes[8..12] == sequence.to_ne_bytes() {
                messages.push((kind, bytes[16..length].to_vec()));
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        messages
    }
}

fn framed(kind: u16, flags: u16, sequence: u32, header: [u8; 4], attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | 1).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(header);
    bytes.extend(attributes);
    bytes
}
