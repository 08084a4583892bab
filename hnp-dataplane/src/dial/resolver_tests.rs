//! The resolver against a name server on loopback.

use std::path::Path;

use super::super::dns_server::{DnsServer, Reply};
use super::*;

const NO_HOSTS: &str = "/nonexistent/hosts";

async fn resolve(resolver: &Resolver, name: &str) -> Arc<Answer> {
    match resolver.lookup(name) {
        Lookup::Known(answer) => answer,
        Lookup::Flying(mut flight) => {
            while flight.next().await.is_some() {}
            flight.answer().unwrap()
        }
        Lookup::Busy => panic!("busy"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// How often `name` is asked for in three look-ups, with these settings.
async fn questions(ttl: u32, dns: &str) -> usize {
    let server = DnsServer::start(vec![
        ("a.example", "A", Reply::of(ttl, &["10.0.0.1"])),
        ("a.example", "AAAA", Reply::of(ttl, &["fd00::1"])),
    ]);
    let resolver = server.resolver(
        &format!("[dns]\n{dns}"),
        Path::new(NO_HOSTS),
        Handle::current(),
    );
    for _ in 0..3 {
        let answer = resolve(&resolver, "a.example").await;
        assert_eq!(
            (&*answer.v4, &*answer.v6),
            (&[ip("10.0.0.1")][..], &[ip("fd00::1")][..])
        );
    }
    let asked = server.asked();
    assert_eq!(
        asked.iter().filter(|q| *q == "A a.example").count(),
        asked.len() / 2,
        "{asked:?}"
    );
    asked.len() / 2
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_within_bounds() {
    assert_eq!(questions(300, "").await, 1);
    assert_eq!(
        questions(0, "min-ttl = \"0s\"").await,
        3,
        "a TTL of 0 is not kept"
    );
    assert_eq!(
        questions(0, "min-ttl = \"60s\"").await,
        1,
        "but at least for min-ttl"
    );
    assert_eq!(
        questions(300, "min-ttl = \"0s\"\nmax-ttl = \"0s\"").await,
        3,
        "and at most for max-ttl"
    );
}

#[tokio::test]
async fn an_alias_that_changes_soon_shortens_the_answer_s_life() {
    let mut reply = Reply::of(300, &["10.0.0.1"]);
    reply.alias = Some(("real.example", 0));
    let server = DnsServer::start(vec![("a.example", "A", reply)]);
    let resolver = server.resolver(
        "[dns]\nmin-ttl = \"0s\"",
        Path::new(NO_HOSTS),
        Handle::current(),
    );
    for _ in 0..2 {
        assert_eq!(*resolve(&resolver, "a.example").await.v4, [ip("10.0.0.1")]);
    }
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|q| *q == "A a.example")
            .count(),
        2
    );
}

#[tokio::test]
async fn failures_are_told_apart_and_kept() {
    let mut broken = Reply::of(0, &[]);
    broken.code = 2;
    let server = DnsServer::start(vec![
        ("broken.example", "A", broken.clone()),
        ("broken.example", "AAAA", broken),
        ("empty.example", "A", Reply::of(60, &[])),
    ]);
    let resolver = server.resolver("", Path::new(NO_HOSTS), Handle::current());
    for _ in 0..2 {
        assert_eq!(
            resolve(&resolver, "none.example").await.failure,
            Some(Failure::NoName)
        );
        assert_eq!(
            resolve(&resolver, "empty.example").await.failure,
            Some(Failure::NoAddress)
        );
    }
    let asked = |name: &str| server.asked().iter().filter(|q| q.ends_with(name)).count();
    assert_eq!(
        (asked("none.example"), asked("empty.example")),
        (2, 2),
        "A and AAAA once each"
    );
    let failure = resolve(&resolver, "broken.example").await.failure.clone();
    assert!(matches!(failure, Some(Failure::Server(_))), "{failure:?}");
}

#[tokio::test]
async fn one_family_s_failure_does_not_spoil_the_other() {
    let mut broken = Reply::of(0, &[]);
    broken.code = 2;
    let server = DnsServer::start(vec![
        ("a.example", "A", Reply::of(60, &["10.0.0.1"])),
        ("a.example", "AAAA", broken),
    ]);
    let resolver = server.resolver("", Path::new(NO_HOSTS), Handle::current());
    let answer = resolve(&resolver, "a.example").await;
    assert_eq!(
        (&*answer.v4, &answer.failure),
        (&[ip("10.0.0.1")][..], &None)
    );
}

#[tokio::test]
async fn those_who_wait_for_one_name_share_one_question_and_hear_the_first_family_early() {
    let mut slow = Reply::of(60, &["fd00::1"]);
    slow.held = true;
    let server = Arc::new(DnsServer::start(vec![
        ("a.example", "A", Reply::of(60, &["10.0.0.1"])),
        ("a.example", "AAAA", slow),
    ]));
    let resolver = server.resolver("", Path::new(NO_HOSTS), Handle::current());
    let mut flights: Vec<Flight> = (0..50)
        .map(|_| match resolver.lookup("a.example") {
            Lookup::Flying(flight) => flight,
            _ => panic!("nothing is known yet"),
        })
        .collect();
    for flight in &mut flights {
        assert!(matches!(flight.next().await, Some(Batch::V4(a)) if *a == [ip("10.0.0.1")]));
    }
    let holding = Arc::clone(&server);
    tokio::task::spawn_blocking(move || holding.holding.lock().unwrap().recv().unwrap())
        .await
        .unwrap();
    assert_eq!(server.asked(), ["A a.example", "AAAA a.example"]);
    server.release();
    for flight in &mut flights {
        assert!(matches!(flight.next().await, Some(Batch::V6(a)) if *a == [ip("fd00::1")]));
        assert!(flight.next().await.is_none());
    }
    assert!(matches!(resolver.lookup("a.example"), Lookup::Known(_)));
}

#[tokio::test]
async fn silence_ends_at_the_timeout_with_what_there_is() {
    let mut silent = Reply::of(60, &[]);
    silent.silent = true;
    let server = DnsServer::start(vec![
        ("half.example", "A", Reply::of(60, &["10.0.0.1"])),
        ("half.example", "AAAA", silent.clone()),
        ("none.example", "A", silent.clone()),
        ("none.example", "AAAA", silent),
    ]);
    let resolver = server.resolver(
        "[timeouts]\nresolve = \"200ms\"",
        Path::new(NO_HOSTS),
        Handle::current(),
    );
    let (none, half) = tokio::join!(
        resolve(&resolver, "none.example"),
        resolve(&resolver, "half.example")
    );
    assert_eq!(none.failure, Some(Failure::Timeout));
    assert_eq!(*half.v4, [ip("10.0.0.1")]);
    assert_eq!(resolver.shared.flights.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let many: Vec<String> = (1..=12).map(|n| format!("10.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut reply = Reply::of(60, &many);
    reply.truncated = true;
    let server = DnsServer::start(vec![("a.example", "A", reply)]);
    let resolver = server.resolver("", Path::new(NO_HOSTS), Handle::current());
    assert_eq!(resolve(&resolver, "a.example").await.v4.len(), 12);
    assert!(server.asked().contains(&"A a.example tcp".to_owned()));
}

#[tokio::test]
async fn the_search_list_is_walked_as_resolv_conf_says() {
    let entries = || {
        vec![
            (
                "db.ns.svc.cluster.local",
                "A",
                Reply::of(60, &["10.96.0.1"]),
            ),
            ("app.harness.io", "A", Reply::of(60, &["34.1.2.3"])),
            // The same name elsewhere has another family: never to be mixed in.
            ("db", "AAAA", Reply::of(60, &["2600::bad"])),
        ]
    };
    let search = [
        "ns.svc.cluster.local.",
        "svc.cluster.local.",
        "cluster.local.",
    ];
    let server = DnsServer::start(entries());
    let kubernetes = server.resolver_with("", &search, 5, Path::new(NO_HOSTS), Handle::current());
    let answer = resolve(&kubernetes, "db").await;
    assert_eq!((&*answer.v4, answer.v6.len()), (&[ip("10.96.0.1")][..], 0));
    assert_eq!(
        server.asked(),
        ["A db.ns.svc.cluster.local", "AAAA db.ns.svc.cluster.local"]
    );
    assert_eq!(
        *resolve(&kubernetes, "app.harness.io").await.v4,
        [ip("34.1.2.3")]
    );
    let asked = server.asked();
    assert_eq!(
        asked.iter().filter(|q| q.starts_with("A app")).count(),
        4,
        "{asked:?}"
    );

    let server = DnsServer::start(entries());
    let plain = server.resolver_with("", &search, 1, Path::new(NO_HOSTS), Handle::current());
    assert_eq!(
        *resolve(&plain, "app.harness.io").await.v4,
        [ip("34.1.2.3")]
    );
    assert_eq!(server.asked(), ["A app.harness.io", "AAAA app.harness.io"]);
}

#[tokio::test]
async fn the_hosts_file_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    std::fs::write(&path, "10.1.1.1 a.example\n").unwrap();
    let server = DnsServer::start(vec![("a.example", "AAAA", Reply::of(60, &["2600::1"]))]);
    let resolver = server.resolver("", &path, Handle::current());
    let answer = resolve(&resolver, "a.example").await;
    assert_eq!((&*answer.v4, answer.v6.len()), (&[ip("10.1.1.1")][..], 0));
    let local = resolve(&resolver, "localhost").await;
    assert_eq!(
        (&*local.v4, &*local.v6),
        (&[ip("127.0.0.1")][..], &[ip("::1")][..]),
        "RFC 6761 section 6.3"
    );
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let server = DnsServer::start(Vec::new());
    let resolver = server.resolver(
        "[dns]\ncache-size = 32",
        Path::new(NO_HOSTS),
        Handle::current(),
    );
    for n in 0..200 {
        resolve(&resolver, &format!("n{n}.example")).await;
    }
    let kept: usize = resolver
        .shared
        .shards
        .iter()
        .map(|shard| shard.lock().unwrap().len())
        .sum();
    assert!((16..=32).contains(&kept), "{kept}");
}

#[test]
fn a_lookup_ends_when_the_control_thread_does() {
    let mut silent = Reply::of(60, &[]);
    silent.held = true;
    let server = DnsServer::start(vec![("a.example", "A", silent)]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let resolver = server.resolver("", Path::new(NO_HOSTS), runtime.handle().clone());
    let Lookup::Flying(mut flight) = resolver.lookup("a.example") else {
        panic!("nothing is known yet")
    };
    drop(runtime);
    let end = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(flight.next());
    assert!(end.is_none() && flight.answer().is_none());
    assert_eq!(resolver.shared.flights.load(Ordering::Relaxed), 0);
    assert_eq!(resolver.shared.shard("a.example").len(), 0);
}
