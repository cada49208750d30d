use super::*;
use std::os::unix::process::ExitStatusExt;

fn shell<'a>(arguments: &'a [OsString], input: &'a [u8], limit: Duration) -> Run<'a> {
    Run { program: Path::new("/bin/sh"), arguments, environment: None, input, limit }
}

fn script(text: &str) -> Vec<OsString> {
    vec!["-c".into(), text.into()]
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_program_reads_its_input_and_its_answer_is_kept() {
    let input = vec![b'x'; 300_000];
    let outcome = run(&shell(&script("cat; exit 3"), &input, LONG)).unwrap();
    assert_eq!(outcome.status.code(), Some(3));
    assert_eq!(outcome.output, input);
}

#[test]
fn a_program_that_reads_nothing_harms_nobody() {
    let input = vec![b'x'; 1_000_000];
    let outcome = run(&shell(&script("echo done"), &input, LONG)).unwrap();
    assert_eq!(outcome.output, b"done\n");
}

#[test]
fn the_environment_is_the_given_one_alone() {
    let environment = [("ONLY".into(), "this".into())];
    let arguments = script("echo $ONLY; echo ${HOME-none}; echo oops >&2");
    let program = Run { environment: Some(&environment), ..shell(&arguments, b"", LONG) };
    let outcome = run_quietly(&program).unwrap();
    assert_eq!(outcome.output, b"this\nnone\n");
    assert_eq!(outcome.complaints, b"oops\n");
}

#[test]
fn a_program_that_takes_too_long_is_killed_and_waited_for() {
    let start = Instant::now();
    for text in ["exec sleep 60", "exec >&-; exec sleep 60"] {
        let error = run(&shell(&script(text), b"", Duration::from_millis(100))).unwrap_err();
        assert!(matches!(error, SysError::Deadline { .. }), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_grandchild_that_keeps_stdout_open_is_not_waited_for() {
    let start = Instant::now();
    let outcome = run(&shell(&script("sleep 25 & echo early"), b"", LONG)).unwrap();
    assert_eq!(outcome.output, b"early\n");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_program_that_is_killed_says_so_and_one_that_is_missing_too() {
    let outcome = run(&shell(&script("kill -9 $$"), b"", LONG)).unwrap();
    assert_eq!(outcome.status.signal(), Some(9));
    let missing = Run { program: Path::new("/no/such/program"), ..shell(&[], b"", LONG) };
    let error = run(&missing).unwrap_err();
    assert_eq!(error.to_string(), "cannot run /no/such/program: No such file or directory");
}

#[test]
fn an_environment_that_is_too_long_is_an_error() {
    let environment = [("CNI_ARGS".into(), "x".repeat(1 << 20).into())];
    let program = Run { environment: Some(&environment), ..shell(&[], b"", LONG) };
    assert_eq!(run(&program).unwrap_err().errno(), Some(Errno::E2BIG));
}

#[test]
fn a_program_that_is_being_written_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("true");
    std::fs::copy("/bin/true", &path).unwrap();
    let writer = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let held = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        drop(writer);
    });
    let program = Run { program: &path, ..shell(&[], b"", LONG) };
    assert!(run(&program).unwrap().status.success());
    held.join().unwrap();
}

#[test]
fn variables_that_are_set_replace_ours() {
    let all = environment_with(&[("PATH", "/only".to_owned()), ("CNI_ARGS", String::new())]);
    let of =
        |name: &str| all.iter().filter(|(key, _)| key == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    assert_eq!(of("PATH"), ["/only"]);
    assert_eq!(of("CNI_ARGS"), [""]);
    assert_eq!(
        all.len(),
        std::env::vars_os().filter(|(key, _)| key != "PATH" && key != "CNI_ARGS").count() + 2
    );
}

#[test]
fn the_first_directory_wins_and_directories_are_no_programs() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(one.path().join("bridge")).unwrap();
    std::fs::write(two.path().join("bridge"), "").unwrap();
    let directories = [one.path().to_owned(), two.path().to_owned()];
    assert_eq!(find("bridge", &directories), Some(two.path().join("bridge")));
    assert_eq!(find("portmap", &directories), None);
}
