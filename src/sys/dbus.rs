//! The system bus: calls of methods with strings, and their answers.
//!
//! Only what firewalld needs of the D-Bus specification: one connection over a Unix socket, little-endian messages,
//! arguments that are strings. See `docs/decisions/0033-d-bus-by-hand.md`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where the bus listens, by the specification; `/var/run` is a link to `/run`.
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// Names another socket, as `unix:path=PATH`.
const ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// How long one answer may take: firewalld answers nobody while it reloads.
const LIMIT: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes. The specification allows 128 MiB.
const LONGEST: u32 = 16 << 20;

/// `METHOD_CALL`, `METHOD_RETURN` and `ERROR` of the message types.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// `NO_AUTO_START`: nobody is started to be asked.
const NO_START: u8 = 2;
/// Header fields by their codes.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The connection failed.
    #[error("the system bus: {0}")]
    Io(#[from] io::Error),
    /// Nobody of that name is on the bus.
    #[error("{0} does not run")]
    NotRunning(String),
    /// The called one refused, in its own words.
    #[error("{text}")]
    Refused {
        /// The error's name on the bus.
        name: String,
        /// What it says.
        text: String,
    },
    /// What came is no message of D-Bus.
    #[error("the system bus: {0}")]
    Malformed(&'static str),
}

/// Whom to call.
#[derive(Debug, Clone, Copy)]
pub struct Callee {
    /// Its name on the bus.
    pub destination: &'static str,
    /// The object.
    pub path: &'static str,
    /// The interface of the method.
    pub interface: &'static str,
}

/// The bus itself.
const DAEMON: Callee = Callee {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A connection to the system bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects to the system bus; `None` where there is none.
    ///
    /// # Errors
    /// Where it does not take the connection.
    pub fn system() -> Result<Option<Self>, BusError> {
        let address = std::env::var(ADDRESS).unwrap_or_default();
        Self::connect(address.strip_prefix("unix:path=").unwrap_or(SOCKET))
    }

    fn connect(path: &str) -> Result<Option<Self>, BusError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // The socket of a bus that has ended may stay.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut bus = Self { stream, serial: 0 };
        bus.authenticate()?;
        bus.call(&DAEMON, "Hello", &[])?;
        Ok(Some(bus))
    }

    /// Says who we are: whoever the kernel says, which is what no initial response means.
    fn authenticate(&mut self) -> Result<(), BusError> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => break,
                _ => return Err(BusError::Malformed("it does not know who we are")),
            }
        }
        Ok(self.stream.write_all(b"BEGIN\r\n")?)
    }

    fn line(&mut self) -> Result<String, BusError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            if line.len() > 512 {
                return Err(BusError::Malformed("a line without an end"));
            }
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls a method with strings, and gives the body of the answer. Whoever does not run is not started.
    ///
    /// # Errors
    /// Every [`BusError`].
    pub fn call(&mut self, callee: &Callee, method: &str, arguments: &[&str]) -> Result<Reply, BusError> {
        self.serial += 1;
        let serial = self.serial;
        self.stream.write_all(&render(serial, callee, method, arguments))?;
        loop {
            let message = self.message()?;
            // Signals, and answers to nothing, are passed over.
            if message.answers != Some(serial) {
                continue;
            }
            return match message.kind {
                RETURN => Ok(Reply { body: message.body }),
                ERROR => Err(refusal(callee, message)),
                _ => Err(BusError::Malformed("an answer of another kind")),
            };
        }
    }

    fn message(&mut self) -> Result<Message, BusError> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        if fixed[0] != b'l' {
            return Err(BusError::Malformed("a message in another order of bytes"));
        }
        let body = number(&fixed, 4)?;
        let fields = number(&fixed, 12)?;
        if body > LONGEST || fields > LONGEST {
            return Err(BusError::Malformed("a message without measure"));
        }
        // The header ends on a multiple of 8.
        let mut header = vec![0; fields.next_multiple_of(8) as usize];
        self.stream.read_exact(&mut header)?;
        let mut content = vec![0; body as usize];
        self.stream.read_exact(&mut content)?;
        let (answers, error) = read_fields(header.get(..fields as usize).unwrap_or_default())?;
        Ok(Message { kind: fixed[1], answers, error, body: content })
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct Reply {
    body: Vec<u8>,
}

impl Reply {
    /// An answer that is an array of strings.
    ///
    /// # Errors
    /// Where it is not.
    pub fn strings(&self) -> Result<Vec<String>, BusError> {
        let length = number(&self.body, 0)? as usize;
        let end = length.checked_add(4).filter(|end| *end <= self.body.len());
        let end = end.ok_or(BusError::Malformed("an array that is cut off"))?;
        let (mut all, mut at) = (Vec::new(), 4);
        while at < end {
            let (text, next) = string(&self.body, at)?;
            all.push(text);
            at = next.next_multiple_of(4);
        }
        Ok(all)
    }
}

impl Reply {
    /// An answer that is a variant with a string in it: the value of a property.
    ///
    /// # Errors
    /// Where it is not.
    pub fn text(&self) -> Result<String, BusError> {
        // The signature: its length, one letter, its end; then the string at the next multiple of 4.
        if self.body.get(..3) != Some(&[1, b's', 0]) {
            return Err(BusError::Malformed("a property of another kind"));
        }
        string(&self.body, 4).map(|(text, _)| text)
    }
}

/// A message as far as it is looked at.
struct Message {
    kind: u8,
    /// The call that it answers.
    answers: Option<u32>,
    error: Option<String>,
    body: Vec<u8>,
}

/// An error's name, and its first argument, which says it in words.
fn refusal(callee: &Callee, message: Message) -> BusError {
    let name = message.error.unwrap_or_default();
    if name.ends_with(".ServiceUnknown") || name.ends_with(".NameHasNoOwner") {
        return BusError::NotRunning(callee.destination.to_owned());
    }
    let text = string(&message.body, 0).map_or_else(|_| name.clone(), |(text, _)| text);
    BusError::Refused { name, text }
}

fn render(serial: u32, callee: &Callee, method: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|text| put_string(&mut body, text));
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (PATH, b'o', callee.path),
        (INTERFACE, b's', callee.interface),
        (MEMBER, b's', method),
        (DESTINATION, b's', callee.destination),
    ] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_string(&mut fields, text);
    }
    if !arguments.is_empty() {
        pad(&mut fields, 8);
        fields.extend([SIGNATURE, 1, b'g', 0, u8::try_from(arguments.len()).unwrap_or(u8::MAX)]);
        fields.extend(arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut message = vec![b'l', CALL, NO_START, 1];
    put_number(&mut message, body.len());
    message.extend(serial.to_le_bytes());
    put_number(&mut message, fields.len());
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

/// The call that a message answers, and the error's name.
fn read_fields(bytes: &[u8]) -> Result<(Option<u32>, Option<String>), BusError> {
    let (mut answers, mut error) = (None, None);
    let mut at = 0;
    while at < bytes.len() {
        let code = *bytes.get(at).ok_or(CUT)?;
        // Every field is a variant of one basic type: its signature is one letter.
        let kind = bytes.get(at + 1..at + 4).filter(|signature| signature[0] == 1).ok_or(CUT)?[1];
        at += 4;
        match kind {
            b'u' => {
                let value = number(bytes, at)?;
                answers = if code == REPLY_SERIAL { Some(value) } else { answers };
                at += 4;
            }
            b's' | b'o' => {
                let (text, next) = string(bytes, at)?;
                error = if code == ERROR_NAME { Some(text) } else { error };
                at = next;
            }
            b'g' => at += usize::from(*bytes.get(at).ok_or(CUT)?) + 2,
            _ => return Err(BusError::Malformed("a header field of no known kind")),
        }
        at = at.next_multiple_of(8);
    }
    Ok((answers, error))
}

const CUT: BusError = BusError::Malformed("a message that is cut off");

fn number(bytes: &[u8], at: usize) -> Result<u32, BusError> {
    let four = bytes.get(at..at.saturating_add(4)).and_then(|four| four.try_into().ok());
    four.map(u32::from_le_bytes).ok_or(CUT)
}

/// The string at a place, and the place behind it and its NUL.
fn string(bytes: &[u8], at: usize) -> Result<(String, usize), BusError> {
    let length = number(bytes, at)? as usize;
    let begin = at + 4;
    let end = begin.checked_add(length).ok_or(CUT)?;
    let text = bytes.get(begin..end).ok_or(CUT)?;
    Ok((String::from_utf8_lossy(text).into_owned(), end + 1))
}

fn put_string(onto: &mut Vec<u8>, text: &str) {
    pad(onto, 4);
    put_number(onto, text.len());
    onto.extend(text.as_bytes());
    onto.push(0);
}

fn put_number(onto: &mut Vec<u8>, number: usize) {
    onto.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn pad(onto: &mut Vec<u8>, to: usize) {
    onto.resize(onto.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests;
