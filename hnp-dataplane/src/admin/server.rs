//! The admin endpoints over HTTP/1, on the control thread.
//!
//! A client there can hold at most one of [`CONNECTIONS`] places for a bounded time, and none of the workers': whatever it
//! does, traffic goes on.

mod respond;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::metrics::Metrics;
use crate::config::Loaded;

/// Connections at once; more wait in the kernel's queue.
pub const CONNECTIONS: usize = 64;
/// For a request head; also how long a connection may idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Life of a connection, so that a client which never reads its answer goes, too.
const LIFETIME: Duration = Duration::from_secs(600);
/// For the answers under way when the server stops, or a connection's life ends.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed `accept(2)`, mostly for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
#[error(
    "the admin listener cannot listen on {address} (admin.address): {error}; choose a free address of this host"
)]
pub struct AdminError {
    /// Where.
    pub address: SocketAddr,
    /// What the kernel says.
    #[source]
    pub error: io::Error,
}

/// What the endpoints show.
pub struct State {
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/healthz` and `/readyz`.
    pub health: Arc<Health>,
    /// `/config`: the configuration in force. It is redacted before it is shown.
    pub config: Box<dyn Fn() -> Arc<Loaded> + Send + Sync>,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Binds. Needs no runtime yet, so that a wrong address is known before anything starts.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<AdminServer, AdminError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(AdminServer {
                address: listener.local_addr()?,
                listener,
            })
        };
        bind().map_err(|error| AdminError { address, error })
    }

    /// Where it listens: with port 0 asked for, the one that the kernel chose.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is ready, then closes the listener, lets answers under way finish and returns. To be called on a
    /// tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the runtime cannot take the listener.
    pub async fn serve(self, state: Arc<State>, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (stopping, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accept = async {
                // A place first: who finds none waits in the kernel's queue and costs nothing here.
                let place = Arc::clone(&places)
                    .acquire_owned()
                    .await
                    .map_err(io::Error::other)?;
                Ok::<_, io::Error>((listener.accept().await?.0, place))
            };
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = accept => match accepted {
                    Ok((stream, place)) => {
                        let serving = serve_connection(stream, Arc::clone(&state), stopped.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin listener could not accept a connection");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
        drop((listener, stopping));
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// Ends at the latest after [`LIFETIME`], or soon after the sender of `stopped` went.
async fn serve_connection(stream: TcpStream, state: Arc<State>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let response = respond::respond(&state, &request);
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What goes wrong here is the client's doing, and it knows.
        _ = &mut connection => return,
        () = sleep(LIFETIME) => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _: Result<Result<(), hyper::Error>, _> = timeout(GRACE, connection).await;
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("metrics", &self.metrics)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
