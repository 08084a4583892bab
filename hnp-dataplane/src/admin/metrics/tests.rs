use std::collections::BTreeMap;
use std::thread;

use super::*;
use crate::admin::names::{self, Kind};
use crate::config::model::InterceptAction;

/// The samples of a scrape.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.render(Format::Prometheus);
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(sample)
        .collect()
}

/// Every metric with something in it.
fn used() -> Arc<Metrics> {
    let metrics = Metrics::new(2);
    let worker = metrics.worker(1);
    worker.backend("epoll");
    worker.backend("io_uring");
    worker.request("tunnel", 200);
    worker.decision(Verdict::Deny, "private_address");
    worker.closed(ClosedBy::Upstream, "eof");
    worker.dial_error("connection_refused");
    worker.resolved(DnsLookup::Miss, Duration::from_millis(3));
    worker.resolved(DnsLookup::Hit, Duration::from_micros(3));
    worker.resolved(DnsLookup::Failed, Duration::from_secs(30));
    worker.dialled(Duration::from_millis(2));
    worker.pipes(3, 4);
    worker.buffers(5, 6);
    worker.tasks(7);
    worker.handshake(Side::Client).done("1.3", true);
    worker.handshake(Side::Upstream).failed("expired");
    worker.upstream_idle(9);
    drop(worker.upstream_request(Connection::New));
    drop(worker.upstream_request(Connection::Kept));
    drop(worker.upstream_request(Connection::Kept));
    drop(worker.http2_stream(Side::Client));
    metrics
        .endpoints()
        .configure(&toml::from_str(ENDPOINT).unwrap());
    worker
        .endpoints()
        .connected(None, "10.0.0.1".parse().unwrap(), false);
    metrics.certificates([certificate("/CN=a", i64::MAX)]);
    let pod = metrics.pods().enter(1, "my-pod".into(), 2);
    pod.ended(1, InterceptAction::Mtls, Outcome::Served);
    pod.bytes_up(0, 3);
    pod.bytes_down(1, 4);
    pod.missed(1);
    metrics
        .pods()
        .read_kernel_by(Box::new(|pod| vec![("relayed", pod.into())]));
    metrics.upstream_reachable(Some(true));
    metrics.dns_cache_entries(8);
    metrics
}

const ENDPOINT: &str = "[listener.tls]\ncertificate = \"c\"\nclient-auth = \"loose\"";

fn certificate(subject: &str, not_after: i64) -> Certificate {
    Certificate {
        role: "server",
        part: "listener".to_owned(),
        file: "/etc/tls.crt".to_owned(),
        subject: subject.to_owned(),
        not_after,
    }
}

#[test]
fn a_scrape_shows_the_names_of_the_table_in_its_order() {
    let metrics = used();
    let prometheus = metrics.render(Format::Prometheus);
    let families: Vec<_> = prometheus
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let table: Vec<_> = names::ALL
        .iter()
        .map(|name| format!("{} {}", name.name, name.kind.as_str()))
        .collect();
    assert_eq!(families, table);
    for name in names::ALL {
        assert!(prometheus.contains(&format!("# HELP {} {}\n", name.name, name.help)));
    }
    assert!(!prometheus.contains("EOF"));

    let open_metrics = metrics.render(Format::OpenMetrics);
    assert!(open_metrics.ends_with("\n# EOF\n"));
    assert!(open_metrics.contains("# TYPE hnp_bytes counter\n"));
    assert!(open_metrics.contains("\nhnp_bytes_total{worker=\"0\",direction=\"up\"} 0\n"));
}

#[test]
fn labels_are_those_of_the_table() {
    let mut seen = std::collections::HashSet::new();
    for sample in samples(&used()).keys() {
        let (family, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let keys = labels
            .trim_end_matches('}')
            .split(',')
            .filter(|l| !l.is_empty());
        let mut keys: Vec<_> = keys.map(|label| label.split_once('=').unwrap().0).collect();
        keys.retain(|key| *key != "le");
        let of_histogram =
            |name: &str| ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        let name = names::ALL.iter().find(|name| match name.kind {
            Kind::Histogram => of_histogram(name.name).contains(&family.to_owned()),
            _ => name.name == family,
        });
        let name = name.unwrap_or_else(|| panic!("{family} is not in the table"));
        assert_eq!(keys, name.labels, "{family}");
        seen.insert(name.name);
    }
    assert_eq!(seen.len(), names::ALL.len(), "a metric has no sample");
}

#[test]
fn values_arrive_where_they_belong() {
    let samples = samples(&used());
    for (sample, value) in [
        ("hnp_backend_info{worker=\"1\",backend=\"epoll\"}", 1.0),
        ("hnp_requests_total{mode=\"tunnel\",status=\"200\"}", 1.0),
        (
            "hnp_decisions_total{decision=\"deny\",reason=\"private_address\"}",
            1.0,
        ),
        ("hnp_closes_total{by=\"upstream\",reason=\"eof\"}", 1.0),
        ("hnp_dial_errors_total{error=\"connection_refused\"}", 1.0),
        ("hnp_dns_lookups_total{result=\"miss\"}", 1.0),
        ("hnp_resolve_seconds_bucket{le=\"0.0005\"}", 1.0),
        ("hnp_resolve_seconds_bucket{le=\"0.0025\"}", 1.0),
        ("hnp_resolve_seconds_bucket{le=\"0.005\"}", 2.0),
        ("hnp_resolve_seconds_bucket{le=\"10.0\"}", 2.0),
        ("hnp_resolve_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("hnp_resolve_seconds_count", 3.0),
        ("hnp_resolve_seconds_sum", 30.003_003),
        ("hnp_pipes{worker=\"1\",state=\"in_use\"}", 4.0),
        ("hnp_pipes{worker=\"0\",state=\"idle\"}", 0.0),
        ("hnp_buffers{worker=\"1\",state=\"idle\"}", 5.0),
        ("hnp_tasks{worker=\"1\"}", 7.0),
        ("hnp_upstream_reachable", 1.0),
        ("hnp_dns_cache_entries", 8.0),
        (
            "hnp_tls_handshakes_total{side=\"client\",result=\"ok\",version=\"1.3\",resumed=\"yes\"}",
            1.0,
        ),
        (
            "hnp_tls_handshakes_total{side=\"upstream\",result=\"expired\",version=\"none\",resumed=\"no\"}",
            1.0,
        ),
        ("hnp_tls_handshake_seconds_count{side=\"client\"}", 1.0),
        ("hnp_tls_handshake_seconds_count{side=\"upstream\"}", 0.0),
        ("hnp_upstream_connections{worker=\"1\",state=\"idle\"}", 9.0),
        ("hnp_upstream_requests_total{connection=\"new\"}", 1.0),
        ("hnp_upstream_requests_total{connection=\"kept\"}", 2.0),
        ("hnp_http2_streams_total{worker=\"1\",side=\"client\"}", 1.0),
        (
            "hnp_endpoint_connections_total{endpoint=\"listener\",client_certificate=\"no\"}",
            1.0,
        ),
        (
            "hnp_endpoint_clients_without_certificate{endpoint=\"listener\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
}

#[test]
fn a_duration_on_a_bound_is_within_it() {
    let metrics = Metrics::new(1);
    metrics.worker(0).dialled(Duration::from_millis(25));
    assert_eq!(
        samples(&metrics)["hnp_dial_seconds_bucket{le=\"0.01\"}"],
        0.0
    );
    assert_eq!(
        samples(&metrics)["hnp_dial_seconds_bucket{le=\"0.025\"}"],
        1.0
    );
}

#[test]
fn guards_close_the_books() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0);
    let mut polite = worker.accepted();
    let cancelled = worker.accepted();
    let tunnel = worker.tunnel();
    assert_eq!((worker.active(), worker.tunnels()), (2, 1));
    let panicked = thread::spawn({
        let worker = worker.clone();
        move || {
            let _guard = worker.accepted();
            panic!("as a task might");
        }
    });
    assert!(panicked.join().is_err());
    polite.closed(ClosedBy::Hnp, "idle");
    polite.closed(ClosedBy::Client, "eof");
    drop((polite, cancelled, tunnel));
    assert_eq!((worker.active(), worker.tunnels()), (0, 0));
    let samples = samples(&metrics);
    assert_eq!(samples["hnp_connections_accepted_total{worker=\"0\"}"], 3.0);
    assert_eq!(
        samples["hnp_closes_total{by=\"client\",reason=\"eof\"}"],
        1.0
    );
    assert_eq!(
        samples["hnp_closes_total{by=\"hnp\",reason=\"aborted\"}"],
        2.0
    );
    assert_eq!(samples["hnp_tunnel_seconds_count"], 1.0);
}

#[test]
fn handshakes_and_streams_close_their_books() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0);
    let (cancelled, pending) = (
        worker.handshake(Side::Client),
        worker.handshake(Side::Client),
    );
    let stream = worker.http2_stream(Side::Upstream);
    let request = worker.upstream_request(Connection::Again);
    drop(cancelled);
    let active = "hnp_tls_handshakes_active{worker=\"0\",side=\"client\"}";
    let streams = "hnp_http2_streams_active{worker=\"0\",side=\"upstream\"}";
    let in_use = "hnp_upstream_connections{worker=\"0\",state=\"in_use\"}";
    let before = samples(&metrics);
    assert_eq!((before[active], before[streams]), (1.0, 1.0));
    assert_eq!(before[in_use], 1.0);
    let aborted = "hnp_tls_handshakes_total{side=\"client\",result=\"aborted\",version=\"none\",resumed=\"no\"}";
    assert_eq!(before[aborted], 1.0);
    pending.done("1.2", false);
    drop((stream, request));
    let after = samples(&metrics);
    assert_eq!(after[in_use], 0.0);
    assert_eq!((after[active], after[streams]), (0.0, 0.0));
    assert_eq!(
        after["hnp_tls_handshake_seconds_count{side=\"client\"}"],
        1.0
    );
}

#[test]
fn certificates_show_the_seconds_they_have_left() {
    let metrics = Metrics::new(1);
    let last = "hnp_certificate_last_reload_timestamp_seconds";
    assert!(!samples(&metrics).contains_key(last), "none, no time");
    let now = i64::try_from(unix_seconds(SystemTime::now())).unwrap();
    // The same subject twice: one series, and it is the one that ends first.
    metrics.certificates([
        certificate("CN=a", now + 1000),
        certificate("CN=a", now + 500),
        certificate("CN=\"b\"\n", now - 500),
    ]);
    let shown = samples(&metrics);
    let left = |subject: &str| {
        let labels = "role=\"server\",part=\"listener\",file=\"/etc/tls.crt\"";
        shown[&format!("hnp_certificate_expiry_seconds{{{labels},subject=\"{subject}\"}}")]
    };
    assert!((490.0..=500.0).contains(&left("CN=a")));
    assert!((-510.0..=-500.0).contains(&left("CN=\\\"b\\\"\\n")));
    assert!(shown[last] > 1.7e9);
    metrics.certificates_reloaded(false);
    metrics.certificates_reloaded(true);
    metrics.certificates([]);
    let shown = samples(&metrics);
    assert_eq!(shown["hnp_certificate_reloads_total{result=\"ok\"}"], 1.0);
    assert_eq!(
        shown["hnp_certificate_reloads_total{result=\"failed\"}"],
        1.0
    );
    assert!(
        !shown
            .keys()
            .any(|name| name.starts_with("hnp_certificate_expiry_seconds"))
    );
}

#[test]
fn of_too_many_certificates_those_that_end_first_are_shown() {
    let metrics = Metrics::new(1);
    metrics.certificates((0..3000).map(|end| certificate(&format!("CN={end}"), 3000 - end)));
    let shown = samples(&metrics);
    let series = shown
        .keys()
        .filter(|name| name.starts_with("hnp_certificate_expiry_seconds"));
    assert_eq!(series.count(), 1000);
    assert!(shown.keys().any(|name| name.contains("CN=2999")));
    assert!(!shown.keys().any(|name| name.contains("CN=0\"")));
}

#[test]
fn workers_count_apart_and_labels_add_up() {
    let metrics = Metrics::new(2);
    thread::scope(|scope| {
        for worker in [0, 1] {
            let worker = metrics.worker(worker);
            scope.spawn(move || {
                for _ in 0..10_000 {
                    worker.bytes_up(2);
                    worker.bytes_down(3);
                    worker.request("tunnel", 200);
                }
            });
        }
    });
    let samples = samples(&metrics);
    assert_eq!(
        samples["hnp_bytes_total{worker=\"0\",direction=\"up\"}"],
        20_000.0
    );
    assert_eq!(
        samples["hnp_bytes_total{worker=\"1\",direction=\"down\"}"],
        30_000.0
    );
    assert_eq!(
        samples["hnp_requests_total{mode=\"tunnel\",status=\"200\"}"],
        20_000.0
    );
}

#[test]
fn too_many_labels_become_other() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0);
    for status in 0..1000 {
        worker.request("tunnel", status);
    }
    worker.request("tunnel", 0);
    let samples = samples(&metrics);
    let of_requests: Vec<_> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("hnp_requests_total"))
        .collect();
    assert!(of_requests.len() < 200, "{} series", of_requests.len());
    assert_eq!(
        of_requests.iter().map(|(_, count)| **count).sum::<f64>(),
        1001.0,
        "nothing is lost"
    );
    assert_eq!(
        samples["hnp_requests_total{mode=\"tunnel\",status=\"0\"}"],
        2.0
    );
    assert!(samples["hnp_requests_total{mode=\"other\",status=\"0\"}"] > 800.0);
}

#[test]
fn reloads_are_counted_by_result() {
    let metrics = Metrics::new(1);
    metrics.reloaded(true);
    metrics.reloaded(false);
    metrics.reloaded(false);
    let samples = samples(&metrics);
    assert_eq!(samples["hnp_config_reloads_total{result=\"ok\"}"], 1.0);
    assert_eq!(samples["hnp_config_reloads_total{result=\"failed\"}"], 2.0);
    assert!(samples["hnp_config_last_reload_timestamp_seconds"] > 1.7e9);
    assert!(
        !samples.contains_key("hnp_upstream_reachable"),
        "no upstream, no figure"
    );
}

#[test]
fn workers_share_no_cache_line() {
    let metrics = Metrics::new(4);
    let addresses: Vec<_> = (0..4)
        .map(|worker| Arc::as_ptr(&metrics.worker(worker).0) as usize)
        .collect();
    assert!(
        addresses.iter().all(|address| address % 128 == 0),
        "{addresses:x?}"
    );
    assert_eq!(size_of::<WorkerCells>() % 128, 0);
}

#[test]
fn a_pods_counters_come_and_go_with_it() {
    let metrics = used();
    let seen = samples(&metrics);
    let of = |name: &str| seen[name];
    assert_eq!(
        of("hnp_intercept_connections_total{pod=\"my-pod\",action=\"mtls\",outcome=\"served\"}"),
        1.0
    );
    assert_eq!(
        of("hnp_intercept_bytes_total{pod=\"my-pod\",direction=\"up\"}"),
        3.0
    );
    assert_eq!(of("hnp_intercept_lookup_misses_total{pod=\"my-pod\"}"), 1.0);
    assert_eq!(
        of("hnp_intercept_kernel_total{pod=\"my-pod\",decision=\"relayed\"}"),
        1.0
    );
    metrics.pods().leave(1);
    let left = samples(&metrics);
    assert_eq!(left["hnp_intercept_pods"], 0.0);
    assert!(!left.keys().any(|name| name.contains("my-pod")));
}
