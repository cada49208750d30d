//! Connections: held off, or passed on to the container.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::Counters;
use super::connection::{Connection, Live, reset};
use crate::agent::log;

/// How long a container may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one port until it is dropped.
pub(super) async fn serve(
    listener: Rc<TcpListener>,
    target: Option<SocketAddr>,
    counters: Rc<Counters>,
    live: Rc<Live>,
) {
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
        let live = Rc::clone(&live);
        spawn_local(async move {
            match reach(target).await {
                Ok(server) => match Connection::new(client, server) {
                    Ok(connection) => Live::carry(&live, connection, place),
                    Err(error) => log::warn(&format!("a connection cannot be passed on: {error}")),
                },
                Err(_) => {
                    place.0.failed.set(place.0.failed.get() + 1);
                    reset(&client);
                }
            }
        });
    }
}

async fn reach(target: SocketAddr) -> io::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(target)).await?
}
