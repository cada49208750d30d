//! Connections: held off, or passed on to the container.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::Linger};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Counters;
use crate::agent::log;
use crate::sys::splice::Pipe;

/// How long a container may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one port until it is dropped.
pub(super) async fn serve(listener: TcpListener, target: Option<SocketAddr>, counters: Rc<Counters>) {
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // No descriptors are left, or the client is gone already.
                log::warn(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(target) = target else {
            // As if nobody listened, which nobody does.
            reset(&client);
            continue;
        };
        let Some(place) = Counters::place(&counters) else {
            reset(&client);
            continue;
        };
        spawn_local(async move {
            let outcome = pass_on(&client, target, &place.0).await;
            if outcome.is_err() {
                reset(&client);
            }
            drop(place);
        });
    }
}

/// Passes bytes both ways until both have ended.
async fn pass_on(client: &TcpStream, target: SocketAddr, counters: &Counters) -> io::Result<()> {
    let server = match timeout(PATIENCE, TcpStream::connect(target)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => {
            counters.failed.set(counters.failed.get() + 1);
            return Err(error);
        }
        Err(_) => {
            counters.failed.set(counters.failed.get() + 1);
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    let done = tokio::try_join!(pump(client, &server, counters), pump(&server, client, counters));
    if done.is_err() {
        reset(&server);
    }
    done.map(drop)
}

/// Moves one direction, within the kernel, and passes its end on.
async fn pump(from: &TcpStream, to: &TcpStream, counters: &Counters) -> io::Result<()> {
    let pipe = Pipe::new()?;
    loop {
        let mut left = from.async_io(Interest::READABLE, || pipe.fill(from)).await?;
        if left == 0 {
            break;
        }
        counters.bytes.set(counters.bytes.get() + left as u64);
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || pipe.drain(to, left)).await?;
        }
    }
    // The other direction may go on.
    match nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(to), nix::sys::socket::Shutdown::Write) {
        Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the end of a connection a reset.
fn reset(stream: &TcpStream) {
    // Where it cannot be had, the connection ends in order.
    let _ = setsockopt(stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
