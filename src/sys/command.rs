//! Child processes for the commands that a person types: bounded in time, fed on stdin, heard on stdout.
//!
//! Not for the hot path: a call starts threads.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take. A DHCP plugin waits up to a minute for its lease.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// How long a program that is being overwritten (`ETXTBSY`) is tried again; libcni waits about as long.
const BUSY_LIMIT: Duration = Duration::from_secs(6);

/// The first pause between two looks at something that is not ready; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest such pause.
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// The first regular file called `name` in `directories`, in their order.
pub fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Runs `program` with `env` on top of this process's environment and `stdin` as its input, and waits for it.
///
/// Its standard error is this process's; `stderr` of the output is empty.
///
/// # Errors
/// The system's reason why it could not be started, where `ETXTBSY` lasted for six seconds;
/// [`io::ErrorKind::TimedOut`] after three minutes, when the program has been killed.
pub fn run(program: &Path, env: &[(String, String)], stdin: &[u8]) -> io::Result<Output> {
    run_within(program, env, stdin, TIME_LIMIT)
}

fn run_within(program: &Path, env: &[(String, String)], stdin: &[u8], limit: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + limit;
    let mut child = start(program, env)?;
    feed(&mut child, stdin);
    let answer = child.stdout.take().map(listen);
    let (stdout, status) =
        match heard(answer, deadline).and_then(|out| Ok((out, finish(&mut child, deadline)?))) {
            Ok(both) => both,
            Err(error) => {
                // Both fail only where the child is already gone.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
    Ok(Output { status, stdout, stderr: Vec::new() })
}

fn start(program: &Path, env: &[(String, String)]) -> io::Result<Child> {
    let deadline = Instant::now() + BUSY_LIMIT;
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Command::new(program)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        match started {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                rest(&mut pause);
            }
            other => return other,
        }
    }
}

/// Writes from a thread of its own: a program that answers before it has read all would else block both sides.
fn feed(child: &mut Child, stdin: &[u8]) {
    if let Some(mut pipe) = child.stdin.take() {
        let bytes = stdin.to_vec();
        // A program that ends without reading its input is judged by its answer, not by the broken pipe.
        thread::spawn(move || pipe.write_all(&bytes));
    }
}

fn listen(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes).map(|_| bytes);
        // The receiver is gone where the deadline has passed.
        let _ = sender.send(read);
    });
    receiver
}

fn heard(answer: Option<mpsc::Receiver<io::Result<Vec<u8>>>>, deadline: Instant) -> io::Result<Vec<u8>> {
    let Some(receiver) = answer else { return Ok(Vec::new()) };
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| too_long())?
}

fn finish(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(too_long());
        }
        rest(&mut pause);
    }
}

fn rest(pause: &mut Duration) {
    thread::sleep(*pause);
    *pause = (*pause * 2).min(LAST_PAUSE);
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it did not finish in time and was killed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("program");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_gets_its_input_and_environment() {
        let directory = tempfile::tempdir().unwrap();
        let program = script(directory.path(), "cat; echo \"$GREETING\"; exit 3");
        let out = run(&program, &[("GREETING".into(), "hello".into())], b"in ").unwrap();
        assert_eq!(out.stdout, b"in hello\n");
        assert_eq!(out.status.code(), Some(3));
    }

    #[test]
    fn input_and_output_larger_than_a_pipe_do_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let input = vec![b'x'; 1 << 20];
        assert_eq!(run(&script(directory.path(), "cat"), &[], &input).unwrap().stdout.len(), 1 << 20);
        assert!(run(&script(directory.path(), "exit 0"), &[], &input).unwrap().status.success());
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        for body in ["exec sleep 60", "exec >&-; exec sleep 60"] {
            let program = script(directory.path(), body);
            let error = run_within(&program, &[], b"", Duration::from_millis(200)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn a_busy_program_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("true");
        fs::copy("/bin/true", &path).unwrap();
        let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let held = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            drop(writer);
        });
        assert!(run(&path, &[], b"").unwrap().status.success());
        held.join().unwrap();
    }

    #[test]
    fn the_first_directory_wins_and_directories_are_no_programs() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(one.path().join("bridge")).unwrap();
        fs::write(two.path().join("bridge"), "").unwrap();
        let directories = [one.path().to_owned(), two.path().to_owned()];
        assert_eq!(find("bridge", &directories), Some(two.path().join("bridge")));
        assert_eq!(find("portmap", &directories), None);
    }
}
