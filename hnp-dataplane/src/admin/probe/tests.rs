use std::net::TcpListener;

use super::*;
use crate::admin::metrics::Format;
use crate::config::model::{Parent, Upstream};

fn config(url: &str, parent: Option<&str>) -> Config {
    let parent = parent.map(|url| Parent::at(url.parse().unwrap()));
    Config {
        upstream: Some(Upstream {
            parent,
            ..Upstream::at(url.parse().unwrap())
        }),
        ..Config::default()
    }
}

#[test]
fn the_first_hop_is_probed_and_no_secret_is_named() {
    let of = |url, parent, direct| ProbeTarget::of(&config(url, parent), direct).unwrap();
    let parent = Some("http://user:secret@proxy.corp:3128");
    assert_eq!(
        of(
            "https://u:secret@app.example/path?token=secret",
            None,
            false
        ),
        ProbeTarget {
            name: "https://app.example:443".into(),
            host: "app.example".into(),
            port: 443
        }
    );
    assert_eq!(
        of("https://app.example:8443", parent, false),
        ProbeTarget {
            name: "https://app.example:8443 via http://proxy.corp:3128".into(),
            host: "proxy.corp".into(),
            port: 3128
        }
    );
    assert_eq!(of("https://app.example", parent, true).host, "app.example");
    assert_eq!(of("http://[::1]", None, false).host, "::1");
    assert_eq!(of("http://[::1]", None, false).name, "http://[::1]:80");
    assert_eq!(ProbeTarget::of(&Config::default(), false), None);
}

async fn found(target: &ProbeTarget) -> Probed {
    probe(target, &system_resolver).await
}

fn target(port: u16) -> ProbeTarget {
    ProbeTarget {
        name: format!("http://localhost:{port}"),
        host: "127.0.0.1".into(),
        port,
    }
}

#[tokio::test]
async fn a_listening_port_is_reachable_and_a_closed_one_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(listener.local_addr().unwrap().port());
    assert!(matches!(found(&target).await, Probed::Reachable(took) if took < PROBE_TIMEOUT));
    drop(listener);
    let Probed::Unreachable(error) = found(&target).await else {
        panic!("reachable")
    };
    assert!(
        error.contains(&format!("127.0.0.1:{}: Connection refused", target.port)),
        "{error}"
    );
}

#[tokio::test]
async fn one_reachable_address_is_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(connect_any(vec![closed, good]).await, Some(Ok(())));
    assert!(matches!(connect_any(vec![closed]).await, Some(Err(_))));
    assert_eq!(connect_any(Vec::new()).await, None);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_an_answer_in_the_end() {
    let never = |_, _| std::future::pending::<io::Result<Vec<SocketAddr>>>();
    assert_eq!(
        probe(&target(1), &never).await,
        Probed::Unreachable("no answer from 127.0.0.1:1 within 5s".into())
    );
}

#[tokio::test]
async fn a_name_without_addresses_is_named() {
    let nobody = |_, _| async { Err(io::Error::other("no such host")) };
    let error = Probed::Unreachable("127.0.0.1 does not resolve: no such host".into());
    assert_eq!(probe(&target(1), &nobody).await, error);
    let empty = |_, _| async { Ok(Vec::new()) };
    assert_eq!(
        probe(&target(1), &empty).await,
        Probed::Unreachable("127.0.0.1 has no address".into())
    );
}

/// The clock is paused: it jumps from one timer to the next.
#[tokio::test(start_paused = true)]
async fn the_probe_repeats_and_follows_the_target() {
    let (health, metrics) = (Health::new(1), Metrics::new(1));
    let (targets, receiver) = watch::channel(Some(ProbeTarget {
        name: "a".into(),
        ..target(1)
    }));
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let resolve = move |_, _| {
        asked.send(tokio::time::Instant::now()).unwrap();
        async { Err(io::Error::other("none")) }
    };
    let task = tokio::spawn(run(
        Arc::clone(&health),
        Arc::clone(&metrics),
        receiver,
        resolve,
    ));
    let first = asks.recv().await.unwrap();
    let second = asks.recv().await.unwrap();
    assert!(second - first >= PROBE_EVERY);
    assert_eq!(health.report().upstream.unwrap().reachable, Some(false));
    let text = metrics.render(Format::Prometheus);
    assert!(text.contains("\nhnp_upstream_reachable 0\n"));

    targets
        .send(Some(ProbeTarget {
            name: "b".into(),
            ..target(1)
        }))
        .unwrap();
    let third = asks.recv().await.unwrap();
    assert!(
        third - second < PROBE_EVERY,
        "a new target is probed at once"
    );
    assert_eq!(health.report().upstream.unwrap().name, "b");

    targets.send(None).unwrap();
    while health.report().upstream.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(
        !metrics
            .render(Format::Prometheus)
            .contains("hnp_upstream_reachable ")
    );
    drop(targets);
    task.await.unwrap();
}
