use std::io::Write;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{self, Sources};

struct Running {
    address: SocketAddr,
    health: Arc<Health>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

/// As loaded from a file, with a secret in it.
fn config() -> Loaded {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "[upstream]\nurl = \"https://app.example\"\n\
                [upstream.parent]\nurl = \"http://user:secret@proxy.corp:3128\"\n";
    file.write_all(text.as_bytes()).unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    config::load(&sources).unwrap()
}

fn start() -> Running {
    let (metrics, health) = (Metrics::new(1), Health::new(1));
    let tls = "[listener.tls]\ncertificate = \"c\"\nclient-auth = \"loose\"";
    metrics.endpoints().configure(&toml::from_str(tls).unwrap());
    let client = "10.0.0.9".parse().unwrap();
    metrics.worker(0).endpoints().connected(None, client, false);
    let config = Arc::new(config());
    let state = State {
        metrics,
        health: Arc::clone(&health),
        config: Box::new(move || Arc::clone(&config)),
    };
    let server = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_address();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.serve(Arc::new(state), async move {
        let _: Result<(), _> = stopped.await;
    }));
    Running {
        address,
        health,
        stop,
        task,
    }
}

/// One exchange on a connection of its own: the head, and the body.
async fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let accept = if accept.is_empty() {
        String::new()
    } else {
        format!("Accept: {accept}\r\n")
    };
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{accept}Connection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn metrics_in_the_format_that_is_asked_for() {
    let server = start();
    let (head, body) = get(server.address, "/metrics", "").await;
    assert!(
        head.starts_with("http/1.1 200 ")
            && head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("# TYPE hnp_connections_accepted_total counter\n") && !body.contains("# EOF")
    );
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let (head, body) = get(server.address, "/metrics", prometheus).await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"));
    let (head, _) = get(
        server.address,
        "/metrics",
        "application/openmetrics-text;q=0, */*",
    )
    .await;
    assert!(head.contains("text/plain"), "{head}");
}

#[tokio::test]
async fn clients_without_a_certificate_are_named() {
    let server = start();
    let (head, body) = get(server.address, "/endpoints", "").await;
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("content-type: application/json"),
        "{head}"
    );
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(shown[0]["endpoint"], "listener");
    assert_eq!(shown[0]["client_auth"], "loose");
    let client = &shown[0]["clients_without_certificate"][0];
    assert_eq!(client["address"], "10.0.0.9");
    assert_eq!(client["connections"], 1);
}

#[tokio::test]
async fn health_and_readiness_differ() {
    let server = start();
    let heartbeat = server.health.heartbeat(0);
    heartbeat.beat();
    let (head, body) = get(server.address, "/healthz", "").await;
    assert!(
        head.starts_with("http/1.1 200 ") && body.starts_with("alive\nworker 0: ok (loop "),
        "{head}\n{body}"
    );
    let (head, body) = get(server.address, "/readyz", "").await;
    assert!(
        head.starts_with("http/1.1 503 ") && body.starts_with("not ready\n"),
        "{head}\n{body}"
    );

    server
        .health
        .listener_bound(0, "0.0.0.0:7777".parse().unwrap());
    let (head, body) = get(server.address, "/readyz", "*/*").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        body.starts_with("ready\nworker 0: ok") && body.ends_with("listener 0.0.0.0:7777: bound\n"),
        "{body}"
    );

    server.health.set_draining();
    let (head, body) = get(server.address, "/readyz?json", "").await;
    assert!(
        head.starts_with("http/1.1 503 ") && head.contains("content-type: application/json"),
        "{head}"
    );
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&report["ok"], &report["draining"]),
        (&false.into(), &true.into())
    );
    assert_eq!(report["workers"][0]["state"], "ok");
    assert_eq!(report["listeners"][0]["address"], "0.0.0.0:7777");
    assert!(
        get(server.address, "/healthz", "")
            .await
            .0
            .starts_with("http/1.1 200 ")
    );
    assert!(
        get(server.address, "/healthz", "application/json")
            .await
            .1
            .starts_with('{')
    );
}

#[tokio::test]
async fn a_worker_that_is_gone_fails_the_health_check() {
    let server = start();
    drop(server.health.heartbeat(0));
    let (head, body) = get(server.address, "/healthz", "").await;
    assert!(
        head.starts_with("http/1.1 500 ") && body == "not alive\nworker 0: ended\n",
        "{head}\n{body}"
    );
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let server = start();
    let (head, toml) = get(server.address, "/config", "").await;
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("content-type: application/toml"),
        "{head}"
    );
    let parsed: toml::Table = toml.parse().unwrap();
    assert_eq!(parsed["listener"]["backlog"].as_integer(), Some(4096));
    let (_, json) = get(server.address, "/config?json", "").await;
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        parsed["upstream"]["url"]
            .as_str()
            .unwrap()
            .starts_with("https://app.example")
    );
    for shown in [toml, json] {
        assert!(
            shown.contains("proxy.corp:3128") && !shown.contains("secret"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn the_root_lists_what_there_is_and_nothing_else_is_found() {
    let server = start();
    let (head, list) = get(server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200 "));
    for path in list.lines().map(|line| line.split(' ').next().unwrap()) {
        let (head, _) = get(server.address, path, "").await;
        assert!(!head.starts_with("http/1.1 404 "), "{path}: {head}");
    }
    let (head, body) = get(server.address, "/metrics/", "").await;
    assert!(
        head.starts_with("http/1.1 404 ") && body.ends_with(&list),
        "{head}\n{body}"
    );
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_are_refused() {
    let server = start();
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let (head, body) = exchange(server.address, &format!("HEAD /config HTTP/1.1\r\n{close}")).await;
    let (full_head, full) = get(server.address, "/config", "").await;
    assert!(
        head.starts_with("http/1.1 200 ") && body.is_empty(),
        "{head}\n{body}"
    );
    let length = format!("content-length: {}", full.len());
    assert!(
        head.contains(&length) && full_head.contains(&length),
        "{head}\n{full_head}"
    );

    let post = format!("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n{close}");
    let (head, _) = exchange(server.address, &post).await;
    assert!(
        head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"),
        "{head}"
    );
}

#[tokio::test]
async fn no_more_connections_than_places() {
    let server = start();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        idle.push(stream);
    }
    let late = tokio::spawn(async move { get(server.address, "/", "").await });
    // Whatever could answer it has had its turns.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!late.is_finished());
    idle.pop();
    assert!(late.await.unwrap().0.starts_with("http/1.1 200 "));
}

/// The clock is paused: it jumps to the next timer once everybody waits.
#[tokio::test(start_paused = true)]
async fn who_sends_no_head_is_sent_away() {
    let server = start();
    for sent in [
        "",
        "GET /metrics HTTP/1.1\r\nHo",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let began = tokio::time::Instant::now();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer).await;
        let waited = began.elapsed();
        assert!(
            ended.is_ok() && waited >= HEAD_TIMEOUT && waited < LIFETIME,
            "{sent:?}: {ended:?} after {waited:?}"
        );
    }
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_the_listener() {
    let server = start();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let first = AdminServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = AdminServer::bind(first.local_address())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&first.local_address().to_string()) && error.contains("admin.address"),
        "{error}"
    );
}
