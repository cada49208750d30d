//! The binary: choose the face and hand over.

#![no_main]

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};

use linkspan::plugins::Face;
use linkspan::sys::arena::Arena;
use linkspan::{cli, cni, plugins};

#[global_allocator]
static ALLOCATOR: Arena = Arena;

linkspan::program!(run);

fn run(words: Vec<OsString>) -> i32 {
    let lookup = |name: &str| std::env::var_os(name);
    let mut words = words.into_iter();
    let face = Face::of_program(&words.next().unwrap_or_default());
    let arguments: Vec<OsString> = words.collect();
    // A runtime sets CNI_COMMAND and passes no arguments; a person types a subcommand.
    let by_runtime = arguments.is_empty() && lookup("CNI_COMMAND").is_some_and(|command| !command.is_empty());
    if arguments.is_empty() && !by_runtime {
        // What the protocol's own library says of a plugin that is run by hand; what to do next follows, but not for
        // programs that ask a plugin of the reference what it is.
        let about = plugins::run(face, &lookup, &[]);
        let _ = std::io::stderr().write_all(about.stderr.as_bytes());
        if face.is_reference() {
            return about.status;
        }
    }
    if by_runtime { serve(face, &lookup) } else { type_in(arguments, &lookup) }
}

fn serve(face: Face, lookup: plugins::Lookup<'_>) -> i32 {
    let mut input = Vec::with_capacity(4096);
    let stdin = unbuffered(0);
    // VERSION needs no input, and a person who tries it at a terminal gives none.
    if !stdin.is_terminal() {
        // One byte past the limit shows that it is exceeded. What cannot be read is refused as what it is: empty.
        let _ = (&*stdin).take(cni::MAX_INPUT as u64 + 1).read_to_end(&mut input);
    }
    let reply = plugins::run(face, lookup, &input);
    let _ = unbuffered(2).write_all(reply.stderr.as_bytes());
    if !reply.stdout.is_empty() {
        // Line and end of line together: one write.
        let line = reply.stdout + "\n";
        if let Err(error) = unbuffered(1).write_all(line.as_bytes()) {
            let told = plugins::undelivered(face, lookup, &input, (&line, reply.status), &error);
            let _ = std::io::stderr().write_all(told.as_bytes());
            return 1;
        }
    }
    reply.status
}

/// A standard descriptor as a file. The streams of the standard library have buffers of their own, which what is read to
/// its end and written at once only fills.
fn unbuffered(descriptor: RawFd) -> ManuallyDrop<File> {
    // SAFETY: `program!` has opened the standard descriptors, nobody closes them, and neither does this: it is not dropped.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

fn type_in(arguments: Vec<OsString>, lookup: plugins::Lookup<'_>) -> i32 {
    let terminal =
        cli::Terminal { stdout: std::io::stdout().is_terminal(), stderr: std::io::stderr().is_terminal() };
    let mut stdout = std::io::stdout().lock();
    let status = cli::run(terminal, arguments, lookup, &mut stdout, &mut std::io::stderr().lock());
    // Nothing flushes it at the end of the process. A reader who closed the pipe has seen enough.
    let unwritten = stdout.flush().is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    if status == 0 && unwritten { 1 } else { status }
}
