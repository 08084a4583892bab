//! A worker between clients and an upstream of the test's own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::super::*;
use crate::access_log::AccessLog;
use crate::admin::health::Health;
use crate::admin::metrics::Metrics;
use crate::config::Config;
use crate::config::model::HttpProtocol;
use crate::flow::reverse;
use crate::origin::{Origin, Route};
use crate::policy::limits::Limits;
use crate::run::snapshot::Compiler;
use crate::uring::{self, Listener, ListenerOptions, Mechanism};
use crate::worker::Shared;

/// What the node is told while a test runs.
pub(super) enum Told {
    Drain,
    Done,
}

/// The node's address, and its end of the line.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) tell: mpsc::UnboundedSender<Told>,
}

impl Node {
    pub(super) async fn client(&self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        send
    }
}

/// How a node is to be.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    /// What the upstream speaks.
    pub(super) protocol: HttpProtocol,
    /// What clients speak.
    pub(super) clients: HttpProtocol,
    /// `[timeouts]`.
    pub(super) timeouts: &'static str,
}

impl From<HttpProtocol> for Setting {
    fn from(protocol: HttpProtocol) -> Setting {
        Setting {
            protocol,
            clients: HttpProtocol::H2,
            timeouts: "http-idle = \"2s\"\nupstream-idle = \"2s\"\n",
        }
    }
}

/// Runs `test` against a node on either mechanism, with `upstream` behind it.
pub(super) fn proxied<U, T>(setting: impl Into<Setting>, upstream: U, test: T)
where
    U: AsyncFn(TcpListener) + Send + Sync + 'static,
    T: AsyncFn(Node) + Send + Sync + 'static,
{
    assert_eq!(uring::why_unavailable(), None, "this test needs io_uring");
    let setting = setting.into();
    let parts = Arc::new((upstream, test));
    for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
        println!("on {}", mechanism.name());
        let (tell, mut told) = mpsc::unbounded_channel();
        let (addresses, upstream_address) = oneshot::channel();
        let (node_address, node) = oneshot::channel();
        let parts = Arc::clone(&parts);
        let outside = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let control = tokio::runtime::Handle::current();
                addresses
                    .send((listener.local_addr().unwrap(), control))
                    .unwrap();
                let served = Arc::clone(&parts);
                tokio::task::spawn_local(async move { served.0(listener).await });
                let node = Node {
                    address: node.await.unwrap(),
                    tell: tell.clone(),
                };
                let within = Duration::from_secs(60);
                let outcome = tokio::time::timeout(within, parts.1(node)).await;
                let _ = tell.send(Told::Done);
                outcome.expect("the test ends");
            });
        });
        uring::run(mechanism, async {
            let (upstream, control) = upstream_address.await.unwrap();
            let (worker, snapshot) = worker(upstream, control, setting.timeouts);
            let route = route(upstream, setting.protocol);
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let fd = Listener::bind(any, &ListenerOptions { backlog: 128 }).unwrap();
            let address = socket2::SockRef::from(&fd).local_addr().unwrap();
            let listener = Listener::from_fd(fd).unwrap();
            node_address.send(address.as_socket().unwrap()).unwrap();
            loop {
                tokio::select! {
                    biased;
                    told = told.recv() => match told {
                        Some(Told::Drain) => worker.draining.fire(),
                        Some(Told::Done) | None => break,
                    },
                    ready = listener.readable() => ready.unwrap(),
                }
                while let Ok((client, address)) = listener.try_accept() {
                    let (worker, snapshot) = (Rc::clone(&worker), Arc::clone(&snapshot));
                    let route = Arc::clone(&route);
                    uring::spawn(async move {
                        let account = Account::refused(&worker, address);
                        let peer = Peer {
                            mode: "reverse-proxy",
                            route,
                            over_tls: false,
                            client_certificate: None,
                        };
                        let client = client.into();
                        if setting.clients != HttpProtocol::H2 {
                            reverse::serve(&worker, &snapshot, client, Vec::new(), &peer, &account)
                                .await;
                            return;
                        }
                        let access = Access {
                            requests: Ok(peer),
                            tunnels: Ok(()),
                        };
                        serve(&worker, &snapshot, client, Vec::new(), access, &account).await;
                    });
                }
            }
        })
        .unwrap();
        outside.join().unwrap();
    }
}

fn worker(
    upstream: SocketAddr,
    control: tokio::runtime::Handle,
    timeouts: &str,
) -> (Rc<Worker>, Arc<Snapshot>) {
    let config: Config = toml::from_str(&format!(
        "modes = [\"tunnel\"]\nupstream.url = \"http://{upstream}\"\n[[policy.allow]]\ncidrs = [\"127.0.0.0/8\"]\n[timeouts]\n{timeouts}"
    ))
    .unwrap();
    let snapshot = Compiler::new(control).compile(config, None).unwrap();
    let limits = Limits::new(&snapshot.config.limits);
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        limits,
        health: Health::new(1),
    });
    let snapshot = shared.snapshot.load_full();
    let metrics = Metrics::new(1).worker(0);
    let worker = Worker::new(0, 1, shared, metrics, AccessLog::disabled());
    (Rc::new(worker), snapshot)
}

fn route(upstream: SocketAddr, protocol: HttpProtocol) -> Arc<Route> {
    let url = Url::parse(&format!("http://{upstream}")).unwrap();
    let origin = Origin::new(&url, None).unwrap().speaking(protocol);
    Arc::new(Route {
        origin: Arc::new(origin),
        prefix: "".into(),
        server_name: None,
        forwarded_headers: true,
        client_certificate_header: false,
    })
}

/// An upstream of HTTP/2: each request of each connection is given to `serve`.
pub(super) async fn http2<S>(listener: TcpListener, serve: S)
where
    S: AsyncFn(Request<RecvStream>, SendResponse<Bytes>) + 'static,
{
    let serve = Rc::new(serve);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let serve = Rc::clone(&serve);
        tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let serve = Rc::clone(&serve);
                tokio::task::spawn_local(async move { serve(request, respond).await });
            }
        });
    }
}

pub(super) fn get(path: &str) -> Request<()> {
    let uri = format!("http://node.test{path}");
    Request::builder().uri(uri).body(()).unwrap()
}

pub(super) fn post(path: &str) -> Request<()> {
    let uri = format!("http://node.test{path}");
    Request::builder().method("POST").uri(uri).body(()).unwrap()
}

/// The whole of a body, and its trailers.
pub(super) async fn whole(
    body: &mut RecvStream,
) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok((bytes, body.trailers().await?))
}

pub(super) fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static(value));
    trailers
}
