//! `/metrics` in the text format of Prometheus: on `metrics.sock` in the state directory, and on a loopback address
//! where one is asked for (`--metrics`).

mod text;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{Shared, log};
use crate::apply::Kernel;
use crate::store::State;
use crate::verbs::{self, Survey};

/// The socket's name in the state directory.
const NAME: &str = "metrics.sock";
/// The longest request, in bytes.
const LONGEST: usize = 8192;
/// How long a client may take to ask, and to hear.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are made at the same time.
const TOGETHER: usize = 4;

/// Serves the socket, and the address, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>, address: Option<SocketAddr>) {
    let places = Rc::new(Semaphore::new(TOGETHER));
    match bind(&shared) {
        Ok(listener) => {
            let (shared, places) = (Rc::clone(&shared), Rc::clone(&places));
            spawn_local(async move {
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream);
                    serve(&shared, &places, accepted).await;
                }
            });
        }
        Err(error) => log::warn(&format!("no metrics on {NAME}: {error}")),
    }
    let Some(address) = address else { return };
    match TcpListener::bind(address).await {
        Ok(listener) => loop {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            serve(&shared, &places, accepted).await;
        },
        Err(error) => log::warn(&format!("no metrics on {address}: {error}")),
    }
}

fn bind(shared: &Shared) -> io::Result<UnixListener> {
    let path = shared.state.root().join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdUnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    shared: &Rc<Shared>,
    places: &Rc<Semaphore>,
    accepted: io::Result<S>,
) {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            log::warn(&format!("cannot accept a request for metrics: {error}"));
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        }
    };
    let (shared, places) = (Rc::clone(shared), Rc::clone(places));
    spawn_local(async move {
        let Ok(_place) = places.acquire().await else { return };
        // Whoever hangs up in the middle has heard what they wanted.
        let _ = timeout(PATIENCE, answer(&shared, stream)).await;
    });
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(shared: &Rc<Shared>, mut stream: S) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await?;
        if length == 0 || request.len() + length > LONGEST {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..length]);
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let mut words = line.split(' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => match survey(shared.state.root().to_owned()).await {
            Ok(survey) => ("200 OK", text::render(shared, &survey)),
            Err(error) => ("503 Service Unavailable", format!("{error}\n")),
        },
        (Some("GET"), _) => ("404 Not Found", "there is only /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Looks at the host on a thread of its own: a large network's leases take some milliseconds to list.
async fn survey(root: PathBuf) -> Result<Survey, String> {
    let (done, outcome) = oneshot::channel();
    let work = move || {
        let look = || {
            let state = Rc::new(State::open(&root).map_err(|error| error.to_string())?);
            let mut kernel = Kernel::new(Rc::clone(&state));
            verbs::survey(&state, &mut kernel).map_err(|error| error.to_string())
        };
        let _ = done.send(look());
    };
    std::thread::Builder::new().name("survey".to_owned()).spawn(work).map_err(|error| error.to_string())?;
    outcome.await.map_err(|error| error.to_string())?
}
