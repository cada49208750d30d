//! A bus of one thread, as the daemon answers.

use std::os::unix::net::UnixListener;

use proptest::prelude::*;

use super::*;

const FIREWALL: Callee = Callee { destination: "a.b", path: "/a/b", interface: "a.b.zone" };

/// An answer: its kind, the call it answers, an error's name, and its body with the signature.
fn answer(kind: u8, to: u32, error: Option<&str>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![REPLY_SERIAL, 1, b'u', 0];
    fields.extend(to.to_le_bytes());
    if let Some(error) = error {
        pad(&mut fields, 8);
        fields.extend([ERROR_NAME, 1, b's', 0]);
        put_string(&mut fields, error);
    }
    if !signature.is_empty() {
        pad(&mut fields, 8);
        fields.extend([SIGNATURE, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
        fields.extend(signature.as_bytes());
        fields.push(0);
    }
    let mut message = vec![b'l', kind, 0, 1];
    put_number(&mut message, body.len());
    message.extend(7u32.to_le_bytes());
    put_number(&mut message, fields.len());
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

/// Connects to a daemon that greets, and then says `answers` to whatever is asked.
fn bus(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Result<Option<Bus>, BusError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).unwrap();
        stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n").unwrap();
        let mut hello = vec![];
        put_string(&mut hello, ":1.7");
        // `BEGIN` and the greeting may come apart.
        let mut got = Vec::new();
        while !got.windows(5).any(|window| window == b"Hello") {
            let count = stream.read(&mut bytes).unwrap();
            got.extend_from_slice(&bytes[..count]);
        }
        // A signal comes first: `NameAcquired`.
        stream.write_all(&answer(4, 999, None, "s", &hello)).unwrap();
        for answer in std::iter::once(answer(RETURN, 1, None, "s", &hello)).chain(answers) {
            stream.write_all(&answer).unwrap();
        }
        // It stays for as long as it is called.
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    let bus = Bus::connect(path.to_str().unwrap());
    (directory, bus)
}

#[test]
fn a_call_is_written_as_the_specification_says() {
    let message = render(2, &FIREWALL, "addSource", &["work", "10.0.0.1/32"]);
    let expected = b"l\x01\x02\x01\x1c\0\0\0\x02\0\0\0\x62\0\0\0\
        \x01\x01o\0\x04\0\0\0/a/b\0\0\0\0\
        \x02\x01s\0\x08\0\0\0a.b.zone\0\0\0\0\0\0\0\0\
        \x03\x01s\0\x09\0\0\0addSource\0\0\0\0\0\0\0\
        \x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
        \x08\x01g\0\x02ss\0\
        \x04\0\0\0work\0\0\0\0\x0b\0\0\x0010.0.0.1/32\0";
    assert_eq!(message.len() % 4, expected.len() % 4);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&message[16..]), text(&expected[16..]));
    assert_eq!(
        number(&message, 4).unwrap() as usize,
        b"\x04\0\0\0work\0\0\0\0\x0b\0\0\x0010.0.0.1/32\0".len()
    );
}

#[test]
fn strings_come_back_and_refusals_are_told_apart() {
    let mut list = Vec::new();
    for text in ["10.0.0.1/32", "fd00::1/128"] {
        put_string(&mut list, text);
    }
    let mut body = Vec::new();
    put_number(&mut body, list.len());
    body.extend(list);
    let mut words = Vec::new();
    put_string(&mut words, "ALREADY_ENABLED: 10.0.0.1");
    let mut version = Vec::new();
    put_string(&mut version, "1.3.3");
    let unknown = "org.freedesktop.DBus.Error.ServiceUnknown";
    let (_directory, bus) = bus(vec![
        answer(RETURN, 2, None, "as", &body),
        answer(ERROR, 3, Some("a.b.Exception"), "s", &words),
        answer(ERROR, 4, Some(unknown), "s", &words),
        answer(RETURN, 5, None, "", &[]),
        answer(RETURN, 6, None, "v", &[&[1, b's', 0, 0], &*version].concat()),
    ]);
    let mut bus = bus.unwrap().unwrap();
    let reply = bus.call(&FIREWALL, "getSources", &["work"]).unwrap();
    assert_eq!(reply.strings().unwrap(), ["10.0.0.1/32", "fd00::1/128"]);
    let error = bus.call(&FIREWALL, "addSource", &["work", "10.0.0.1"]).unwrap_err();
    assert_eq!(error.to_string(), "ALREADY_ENABLED: 10.0.0.1");
    let error = bus.call(&FIREWALL, "addSource", &["work", "10.0.0.1"]).unwrap_err();
    assert!(matches!(error, BusError::NotRunning(name) if name == "a.b"));
    let reply = bus.call(&FIREWALL, "nothing", &[]).unwrap();
    assert!(reply.strings().is_err(), "an empty body is no list");
    assert!(reply.text().is_err(), "nor a property");
    let reply = bus.call(&FIREWALL, "Get", &["a.b", "version"]).unwrap();
    assert_eq!(reply.text().unwrap(), "1.3.3");
}

#[test]
fn no_bus_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus");
    assert!(Bus::connect(path.to_str().unwrap()).unwrap().is_none());
    drop(UnixListener::bind(&path).unwrap());
    assert!(Bus::connect(path.to_str().unwrap()).unwrap().is_none(), "left by one that has ended");
}

proptest! {
    #[test]
    fn whatever_comes_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_fields(&bytes);
        let _ = string(&bytes, 0);
        let _ = Reply { body: bytes }.strings();
    }
}
