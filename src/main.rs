//! The binary: choose the face and hand over.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};

use linkspan::plugins::Face;
use linkspan::sys::arena::Arena;
use linkspan::{cli, cni, plugins};

#[global_allocator]
static ALLOCATOR: Arena = Arena;

fn main() {
    let lookup = |name: &str| std::env::var_os(name);
    let mut words = std::env::args_os();
    let face = Face::of_program(&words.next().unwrap_or_default());
    let arguments: Vec<OsString> = words.collect();
    // A runtime sets CNI_COMMAND and passes no arguments; a person types a subcommand.
    let by_runtime = arguments.is_empty() && lookup("CNI_COMMAND").is_some_and(|command| !command.is_empty());
    if arguments.is_empty() && !by_runtime {
        // What the protocol's own library says of a plugin that is run by hand; what to do next follows.
        let about = plugins::run(face, &lookup, &[]);
        let _ = std::io::stderr().write_all(about.stderr.as_bytes());
    }
    let status = if by_runtime { serve(face, &lookup) } else { type_in(arguments, &lookup) };
    std::process::exit(status);
}

fn serve(face: Face, lookup: plugins::Lookup<'_>) -> i32 {
    let mut input = Vec::new();
    let stdin = std::io::stdin();
    // VERSION needs no input, and a person who tries it at a terminal gives none.
    if !stdin.is_terminal() {
        // One byte past the limit shows that it is exceeded. What cannot be read is refused as what it is: empty.
        let _ = stdin.lock().take(cni::MAX_INPUT as u64 + 1).read_to_end(&mut input);
    }
    let reply = plugins::run(face, lookup, &input);
    let _ = std::io::stderr().write_all(reply.stderr.as_bytes());
    let mut stdout = std::io::stdout().lock();
    let printed = if reply.stdout.is_empty() { Ok(()) } else { writeln!(stdout, "{}", reply.stdout) };
    if printed.and_then(|()| stdout.flush()).is_err() {
        return 1;
    }
    reply.status
}

fn type_in(arguments: Vec<OsString>, lookup: plugins::Lookup<'_>) -> i32 {
    let terminal =
        cli::Terminal { stdout: std::io::stdout().is_terminal(), stderr: std::io::stderr().is_terminal() };
    cli::run_at(terminal, arguments, lookup, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())
}
