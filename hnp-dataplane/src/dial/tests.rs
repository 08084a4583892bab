//! The dialer on both backends, against plain sockets, a name server and a parent proxy on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::dns_server::{DnsServer, Reply};
use super::*;
use crate::admin::metrics::Metrics;
use crate::policy::Engine;
use crate::uring::Mechanism;

/// A control thread for as long as a test runs.
struct Control {
    handle: tokio::runtime::Handle,
    end: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    fn start() -> Control {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let end = Arc::new(Notify::new());
        let notified = Arc::clone(&end);
        let thread = thread::spawn(move || runtime.block_on(notified.notified()));
        Control {
            handle,
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Bench {
    dialer: Dialer,
    engine: Engine,
    metrics: WorkerMetrics,
    dns: DnsServer,
    _control: Control,
}

impl Bench {
    fn new(toml: &str, names: Vec<(&'static str, &'static str, Reply)>) -> Bench {
        let control = Control::start();
        let config: Config = toml::from_str(toml).unwrap();
        let dns = DnsServer::start(names);
        let resolver = dns.resolver(
            toml,
            Path::new("/nonexistent/hosts"),
            control.handle.clone(),
        );
        Bench {
            dialer: Dialer::new(&config, resolver, None).unwrap(),
            engine: Engine::compile(&config).unwrap(),
            metrics: Metrics::new(1).worker(0),
            dns,
            _control: control,
        }
    }

    async fn dial(&self, host: &str, port: u16) -> Result<Dialled, DialError> {
        let host = host
            .parse()
            .map_or_else(|_| Host::Name(host.into()), Host::Address);
        let target = Target { host, port };
        self.dialer
            .dial(&self.metrics, &target, |address| {
                self.engine.check_address(&target, address, None)
            })
            .await
    }
}

fn on_both(test: impl AsyncFn()) {
    assert_eq!(uring::why_unavailable(), None, "this test needs io_uring");
    for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
        println!("on {}", mechanism.name());
        uring::run(mechanism, test()).unwrap();
    }
}

/// Answers each connection to `address` with `greeting`.
fn greeter(address: &str, greeting: &'static str) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(greeting.as_bytes());
        }
    });
    port
}

async fn read_all(socket: &Stream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match socket.read(&mut buffer).await.unwrap() {
            0 => return String::from_utf8(all).unwrap(),
            n => all.extend(&buffer[..n]),
        }
    }
}

/// A port of `127.0.0.1` where nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

const LOOPBACK: &str = "[[policy.allow]]\ncidrs = [\"127.0.0.0/8\", \"::1/128\"]\n";

#[test]
fn a_literal_and_a_name_lead_to_the_same_place() {
    on_both(async || {
        let bench = Bench::new(
            LOOPBACK,
            vec![("one.example", "A", Reply::of(60, &["127.0.0.1"]))],
        );
        let port = greeter("127.0.0.1:0", "hello");
        let literal = bench.dial("127.0.0.1", port).await.unwrap();
        assert_eq!(read_all(&literal.stream).await, "hello");
        assert_eq!(
            (literal.address.to_string(), literal.via_parent),
            (format!("127.0.0.1:{port}"), false)
        );
        let mapped = bench.dial("::ffff:127.0.0.1", port).await.unwrap();
        assert_eq!(read_all(&mapped.stream).await, "hello");
        // First by way of the control thread, then from the cache.
        for _ in 0..2 {
            let named = bench.dial("one.example", port).await.unwrap();
            assert_eq!(read_all(&named.stream).await, "hello");
        }
        assert_eq!(bench.dns.asked().len(), 2);
    });
}

#[test]
fn a_family_that_fails_gives_way_to_the_other() {
    on_both(async || {
        let names = vec![
            ("dual.example", "AAAA", Reply::of(60, &["::1"])),
            (
                "dual.example",
                "A",
                Reply::of(60, &["127.0.0.9", "127.0.0.1"]),
            ),
        ];
        let bench = Bench::new(LOOPBACK, names);
        // Nothing listens on ::1, nor on the first IPv4 address.
        let port = greeter("127.0.0.1:0", "four");
        for _ in 0..2 {
            let dialled = bench.dial("dual.example", port).await.unwrap();
            assert_eq!(dialled.address.to_string(), format!("127.0.0.1:{port}"));
            assert_eq!(read_all(&dialled.stream).await, "four");
        }
    });
}

#[test]
fn what_the_policy_refuses_is_not_connected_to() {
    on_both(async || {
        let names = vec![
            ("rebind.example", "A", Reply::of(60, &["127.0.0.1"])),
            (
                "both.example",
                "A",
                Reply::of(60, &["127.0.0.1", "127.0.0.2"]),
            ),
        ];
        let rules =
            "[[policy.allow]]\nhosts = [\"*\"]\n[[policy.allow]]\ncidrs = [\"127.0.0.2/32\"]";
        let bench = Bench::new(rules, names);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in [
            "127.0.0.1",
            "rebind.example",
            "rebind.example",
            "::ffff:127.0.0.1",
        ] {
            let error = bench.dial(host, port).await.unwrap_err();
            assert_eq!(
                (error.status(), error.error_type().token(), error.side()),
                (403, "destination_ip_prohibited", Side::Policy)
            );
            assert_eq!(error.code(), "loopback_address");
            assert!(
                error
                    .to_string()
                    .contains("127.0.0.1 is a loopback address"),
                "{error}"
            );
        }
        // Only the allowed one of two is tried, and nothing listens there.
        let error = bench.dial("both.example", port).await.unwrap_err();
        assert_eq!(error.error_type().token(), "connection_refused");
        assert!(
            error.to_string().contains(&format!("127.0.0.2:{port}")),
            "{error}"
        );
        assert!(listener.accept().is_err(), "no connection was made");
    });
}

#[test]
fn failures_have_a_status_a_type_and_a_side() {
    on_both(async || {
        let mut silent = Reply::of(60, &[]);
        silent.silent = true;
        let mut broken = Reply::of(60, &[]);
        broken.code = 2;
        let names = vec![
            ("empty.example", "A", Reply::of(60, &[])),
            ("silent.example", "A", silent.clone()),
            ("silent.example", "AAAA", silent),
            ("broken.example", "A", broken.clone()),
            ("broken.example", "AAAA", broken),
        ];
        let rules = "[timeouts]\nresolve = \"150ms\"\nconnect = \"150ms\"\n[[policy.allow]]\nhosts = [\"*\"]\n\
                     [[policy.allow]]\ncidrs = [\"127.0.0.0/8\"]";
        let bench = Bench::new(rules, names);
        let rows = [
            ("none.example", 502, "dns_error", Side::Dns, "no such name"),
            (
                "empty.example",
                502,
                "dns_error",
                Side::Dns,
                "has no address",
            ),
            (
                "silent.example",
                504,
                "dns_timeout",
                Side::Dns,
                "no answer within 150ms",
            ),
            (
                "broken.example",
                502,
                "dns_error",
                Side::Dns,
                "name resolution failed",
            ),
            (
                "127.0.0.1",
                502,
                "connection_refused",
                Side::Upstream,
                "nothing listens on 127.0.0.1",
            ),
        ];
        for (host, status, error_type, side, text) in rows {
            let error = bench.dial(host, closed_port()).await.unwrap_err();
            assert_eq!(
                (error.status(), error.error_type().token(), error.side()),
                (status, error_type, side),
                "{error}"
            );
            assert!(
                error.to_string().starts_with(host) && error.to_string().contains(text),
                "{error}"
            );
        }
    });
}

#[test]
fn a_target_that_does_not_answer_times_out() {
    on_both(async || {
        // With its queue full, Linux lets further connections wait for room: they get no answer.
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _queued: Vec<TcpStream> = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()
        })
        .collect();
        let bench = Bench::new(
            &format!("[timeouts]\nconnect = \"100ms\"\n{LOOPBACK}"),
            Vec::new(),
        );
        let error = bench.dial("127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(
            (error.status(), error.error_type().token()),
            (504, "connection_timeout"),
            "{error}"
        );
        assert!(
            error.to_string().contains("did not answer within 100ms"),
            "{error}"
        );
    });
}

/// A parent proxy that answers every connection with the chunks of `answer`, each after the one before was read; what it
/// was asked is returned by the thread.
fn parent(answer: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        String::from_utf8(asked).unwrap()
    });
    (port, thread)
}

fn with_parent(port: u16, more: &str) -> String {
    format!(
        "[timeouts]\nconnect = \"2s\"\n[upstream]\nurl = \"https://app.example\"\n\
         [upstream.parent]\nurl = \"http://u:p@127.0.0.1:{port}\"\n{more}"
    )
}

#[test]
fn a_parent_is_asked_by_name_and_early_bytes_are_kept() {
    on_both(async || {
        let (port, thread) =
            parent("HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\n\r\nearly bird");
        let bench = Bench::new(&with_parent(port, ""), Vec::new());
        let dialled = bench.dial("app.example", 443).await.unwrap();
        assert!(dialled.via_parent && dialled.decision.is_none());
        let later = read_all(&dialled.stream).await;
        assert_eq!(
            String::from_utf8(dialled.early).unwrap() + &later,
            "early bird"
        );
        assert_eq!(
            thread.join().unwrap(),
            "CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
        );
        assert!(bench.dns.asked().is_empty(), "the parent resolves");
    });
}

#[test]
fn the_no_proxy_list_is_dialled_directly() {
    on_both(async || {
        let direct = greeter("127.0.0.1:0", "direct");
        let more = format!("no-proxy = [\"near.example\", \"127.0.0.0/8\"]\n{LOOPBACK}");
        let names = vec![("near.example", "A", Reply::of(60, &["127.0.0.1"]))];
        let bench = Bench::new(&with_parent(closed_port(), &more), names);
        for host in ["near.example", "127.0.0.1"] {
            let dialled = bench.dial(host, direct).await.unwrap();
            assert!(!dialled.via_parent);
            assert_eq!(read_all(&dialled.stream).await, "direct");
        }
    });
}

#[test]
fn a_parent_s_failures_say_whose_they_are() {
    on_both(async || {
        let rows = [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                502,
                "proxy_configuration_error",
                Side::Hnp,
                "credentials",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\n\r\n",
                403,
                "http_request_denied",
                Side::Parent,
                "refuses the target (403)",
            ),
            (
                "HTTP/1.1 504 Gateway Timeout\r\n\r\n",
                504,
                "connection_timeout",
                Side::Upstream,
                "cannot reach",
            ),
            (
                "220 smtp.example ESMTP\r\n",
                502,
                "http_protocol_error",
                Side::Parent,
                "is it an HTTP proxy?",
            ),
            (
                "HTTP/1.1 200 OK\r\n",
                502,
                "http_response_incomplete",
                Side::Parent,
                "closed the connection",
            ),
        ];
        for (answer, status, error_type, side, text) in rows {
            let (port, thread) = parent(answer);
            let bench = Bench::new(&with_parent(port, ""), Vec::new());
            let error = bench.dial("app.example", 443).await.unwrap_err();
            assert_eq!(
                (error.status(), error.error_type().token(), error.side()),
                (status, error_type, side),
                "{error}"
            );
            let message = error.to_string();
            assert!(
                message.contains(text)
                    && message.contains(&format!("parent proxy 127.0.0.1:{port}")),
                "{message}"
            );
            thread.join().unwrap();
        }
        let bench = Bench::new(&with_parent(closed_port(), ""), Vec::new());
        let error = bench.dial("app.example", 443).await.unwrap_err();
        assert_eq!(
            (error.status(), error.error_type().token(), error.side()),
            (502, "connection_refused", Side::Parent)
        );
    });
}

#[test]
fn a_parent_that_keeps_silent_times_out() {
    on_both(async || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = with_parent(port, "").replace("\"2s\"", "\"100ms\"");
        let error = Bench::new(&config, Vec::new())
            .dial("app.example", 443)
            .await
            .unwrap_err();
        assert_eq!(
            (error.status(), error.error_type().token()),
            (504, "http_response_timeout"),
            "{error}"
        );
    });
}

#[test]
fn a_dial_s_future_stays_small() {
    let bench = Bench::new("", Vec::new());
    let target = Target {
        host: Host::Name("a.example".into()),
        port: 443,
    };
    let future = bench.dialer.dial(&bench.metrics, &target, |address| {
        bench.engine.check_address(&target, address, None)
    });
    let size = size_of_val(&future);
    assert!(
        size <= 3072,
        "{size} bytes for each connection that is being made"
    );
}
