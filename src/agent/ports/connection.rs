//! Connections that are being passed on. All of one that there is to know is in the kernel: what was read and not yet
//! written is in its pipes, and an end that was seen is seen again. So another process can go on with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt::Linger};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::{Counters, Place};
use crate::agent::keep::Ends;
use crate::sys::splice::Pipe;

/// A client, and the container that it speaks with.
#[derive(Debug)]
pub(in crate::agent) struct Connection {
    client: TcpStream,
    server: TcpStream,
    there: Pipe,
    back: Pipe,
}

impl Connection {
    /// Of two that have just been connected.
    pub(super) fn new(client: TcpStream, server: TcpStream) -> io::Result<Self> {
        Ok(Self { client, server, there: Pipe::new()?, back: Pipe::new()? })
    }

    /// One that another process passed on until now.
    pub(super) fn of([client, server, there_out, there_in, back_out, back_in]: Ends) -> io::Result<Self> {
        let stream = |descriptor: OwnedFd| TcpStream::from_std(descriptor.into());
        let (there, back) = (Pipe::of(there_out, there_in), Pipe::of(back_out, back_in));
        Ok(Self { client: stream(client)?, server: stream(server)?, there, back })
    }

    /// What another process needs to go on.
    pub(in crate::agent) fn ends(&self) -> [BorrowedFd<'_>; 6] {
        let ([there_out, there_in], [back_out, back_in]) = (self.there.ends(), self.back.ends());
        [self.client.as_fd(), self.server.as_fd(), there_out, there_in, back_out, back_in]
    }

    /// Passes bytes both ways until both have ended.
    async fn pass_on(&self, counters: &Counters) {
        let there = pump(&self.client, &self.there, &self.server, counters);
        let back = pump(&self.server, &self.back, &self.client, counters);
        if tokio::try_join!(there, back).is_err() {
            reset(&self.server);
            reset(&self.client);
        }
    }
}

/// Moves one direction, within the kernel, and passes its end on.
async fn pump(from: &TcpStream, pipe: &Pipe, to: &TcpStream, counters: &Counters) -> io::Result<()> {
    let mut left = pipe.held()?;
    loop {
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || pipe.drain(to, left)).await?;
        }
        left = from.async_io(Interest::READABLE, || pipe.fill(from)).await?;
        if left == 0 {
            break;
        }
        counters.bytes.set(counters.bytes.get() + left as u64);
    }
    // The other direction may go on.
    match shutdown(to.as_raw_fd(), Shutdown::Write) {
        Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the end of a connection a reset.
pub(super) fn reset(stream: &TcpStream) {
    // Where it cannot be had, the connection ends in order.
    let _ = setsockopt(stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}

/// A connection, and who passes it on.
type Carried = (Rc<Connection>, JoinHandle<()>);

/// The connections that there are, by number.
#[derive(Debug, Default)]
pub(super) struct Live {
    all: RefCell<HashMap<u64, Carried>>,
    count: Cell<u64>,
}

impl Live {
    /// Passes on until both sides have ended.
    pub(super) fn carry(live: &Rc<Self>, connection: Connection, place: Place) {
        let number = live.count.get();
        live.count.set(number.wrapping_add(1));
        let connection = Rc::new(connection);
        let (passed, home) = (Rc::clone(&connection), Rc::clone(live));
        let task = spawn_local(async move {
            passed.pass_on(&place.0).await;
            home.all.borrow_mut().remove(&number);
            drop(place);
        });
        live.all.borrow_mut().insert(number, (connection, task));
    }

    /// Ends every task and gives the connections, none of which has ended.
    pub(super) async fn stop(&self) -> Vec<Rc<Connection>> {
        let all = self.all.take();
        let mut stopped = Vec::with_capacity(all.len());
        for (_, (connection, task)) in all {
            task.abort();
            if task.await.is_err_and(|ended| ended.is_cancelled()) {
                stopped.push(connection);
            }
        }
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Taken out of one process's hands in the middle, a connection goes on in another's without a byte lost.
    #[test]
    fn a_connection_goes_on_from_where_it_was_stopped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let pair = async || {
                let outer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                (outer, listener.accept().await.unwrap().0)
            };
            let ((mut client, one), (mut server, two)) = (pair().await, pair().await);
            let counters = Rc::new(Counters::default());
            let mut connection = Connection::new(one, two).unwrap();
            // More than the sockets and the pipe take while nobody reads.
            let sent: Vec<u8> = (0..24_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
            let (mut read, mut write) = client.split();
            let write = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let pass = async {
                for round in 0..200 {
                    let live = Rc::new(Live::default());
                    Live::carry(&live, connection, Counters::place(&counters).unwrap());
                    tokio::time::sleep(Duration::from_millis(round % 3)).await;
                    let Some(stopped) = live.stop().await.pop() else { return round };
                    let ends = stopped.ends().map(|end| end.try_clone_to_owned().unwrap());
                    drop(stopped);
                    connection = Connection::of(ends).unwrap();
                }
                let live = Rc::new(Live::default());
                Live::carry(&live, connection, Counters::place(&counters).unwrap());
                while !live.all.borrow().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                200
            };
            let hear = async {
                let mut heard = Vec::new();
                server.read_to_end(&mut heard).await.unwrap();
                server.write_all(b"thanks").await.unwrap();
                server.shutdown().await.unwrap();
                heard
            };
            let thanks = async {
                let mut thanks = Vec::new();
                read.read_to_end(&mut thanks).await.unwrap();
                thanks
            };
            let ((), rounds, heard, thanks) = tokio::join!(write, pass, hear, thanks);
            assert!(rounds > 1, "it was stopped in the middle");
            assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
            assert_eq!(thanks, b"thanks");
            assert_eq!(counters.open.get(), 0);
        });
    }
}
