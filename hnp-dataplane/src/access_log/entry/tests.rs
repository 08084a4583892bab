use std::time::UNIX_EPOCH;

use nix::sys::resource::{UsageWho, getrusage};

use super::*;
use crate::access_log::line::tests::parse_text;
use crate::target::Host;

/// An entry in which every field is present.
fn full(target: &Target) -> Entry<'_> {
    Entry {
        time: UNIX_EPOCH + Duration::from_micros(1_763_844_560_123_456),
        identity: Some("runner 7"),
        tls: Some("1.3"),
        resumed: Some(true),
        sni: Some("acme.example"),
        endpoint: Some("acme.example"),
        protocol: Some("h2"),
        mode: Some("tunnel"),
        captured: Some(CapturedEntry {
            pod: "my-pod",
            process: "curl",
            pid: 4711,
            original: "203.0.113.7:443".parse().unwrap(),
            name: Some("app.harness.io"),
            rule: 2,
            action: Some("relay"),
        }),
        method: Some("CONNECT"),
        target: Some(target),
        path: Some("/api"),
        decision: Some(Verdict::Allow),
        reason: Some("allow_rule"),
        address: Some("203.0.113.7:443".parse().unwrap()),
        parent: Some("proxy.corp:3128"),
        status: Some(200),
        bytes_up: 517,
        bytes_down: 123_456_789,
        resolve: Some(Duration::from_micros(412)),
        connect: Some(Duration::from_micros(3_050)),
        duration: Duration::from_millis(61_002),
        closed_by: Some(ClosedBy::Client),
        close_reason: "eof",
        detail: Some("it's over"),
        ..Entry::new(1, 42, "192.0.2.10:50123".parse().unwrap())
    }
}

fn target() -> Target {
    Target {
        host: Host::Name("app.harness.io".into()),
        port: 443,
    }
}

fn render(entry: &Entry<'_>, format: LogFormat) -> String {
    let mut buffer = Vec::new();
    entry.write(&mut buffer, format, &mut Clock::new());
    String::from_utf8(buffer).unwrap()
}

#[test]
fn a_line_as_people_read_it() {
    assert_eq!(
        render(&full(&target()), LogFormat::Text),
        "time=2025-11-22T20:49:20.123456Z log=access worker=1 connection=42 client=192.0.2.10:50123 \
         identity=\"runner 7\" tls=1.3 resumed=true sni=acme.example endpoint=acme.example protocol=h2 mode=tunnel pod=my-pod process=curl pid=4711 \
         original=203.0.113.7:443 name=app.harness.io rule=2 action=relay method=CONNECT target=app.harness.io:443 path=/api decision=allow \
         reason=allow_rule address=203.0.113.7:443 parent=proxy.corp:3128 status=200 bytes_up=517 \
         bytes_down=123456789 resolve_ms=0.412 connect_ms=3.050 duration_ms=61002.000 closed_by=client \
         close_reason=eof detail=\"it's over\"\n"
    );
}

#[test]
fn fields_are_those_of_the_table_in_its_order() {
    let target = target();
    let keys = |entry: &Entry<'_>| -> Vec<String> {
        let text = parse_text(&render(entry, LogFormat::Text))
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        // serde_json's map is sorted: only the set can be compared.
        let json: serde_json::Map<_, _> =
            serde_json::from_str(&render(entry, LogFormat::Json)).unwrap();
        let mut sorted: Vec<String> = Clone::clone(&text);
        sorted.sort();
        assert_eq!(sorted, json.keys().cloned().collect::<Vec<_>>());
        text
    };
    let table = |only_always: bool| -> Vec<&str> {
        FIELDS
            .iter()
            .filter(|field| field.always || !only_always)
            .map(|field| field.name)
            .collect()
    };
    assert_eq!(keys(&full(&target)), table(false));
    assert_eq!(
        keys(&Entry {
            worker: None,
            connection: None,
            client: None,
            closed_by: None,
            ..Entry::new(0, 0, "[::1]:1".parse().unwrap())
        }),
        table(true)
    );
}

#[test]
fn a_name_asked_for_cannot_forge_a_field() {
    let entry = Entry {
        sni: Some("a status=200\n\u{202e}"),
        resumed: Some(false),
        ..Entry::new(0, 0, "[::1]:1".parse().unwrap())
    };
    let text = render(&entry, LogFormat::Text);
    assert!(
        text.contains(" resumed=false sni=\"a status=200\\n\\u202e\" bytes_up=0 "),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&render(&entry, LogFormat::Json)).unwrap();
    assert_eq!(json["resumed"], false);
    assert_eq!(json["sni"], "a status=200\n\u{202e}");
}

#[test]
fn no_query_and_no_fragment_is_ever_written() {
    for (path, expected) in [
        ("/a?token=secret", "/a"),
        ("?token=secret", "\"\""),
        ("/a#x?secret", "/a"),
        ("/a", "/a"),
        ("/ü?é", "\"/ü\""),
    ] {
        let entry = Entry {
            path: Some(path),
            ..Entry::new(0, 0, "[::1]:1".parse().unwrap())
        };
        let line = render(&entry, LogFormat::Text);
        assert!(!line.contains("secret"), "{line}");
        assert!(line.contains(&format!(" path={expected} ")), "{line}");
    }
}

#[test]
fn a_verdict_says_what_would_have_happened() {
    assert_eq!(Verdict::new(true, false), Verdict::Allow);
    assert_eq!(Verdict::new(true, true), Verdict::Report);
    assert_eq!(Verdict::new(false, false), Verdict::Deny);
}

/// `cargo test --release -p hnp-dataplane --lib formatting_a_line -- --ignored --nocapture` prints the figure, in CPU time of
/// this thread: other work on the machine does not count.
#[test]
#[ignore = "a measurement: meaningful in a release build only"]
fn formatting_a_line_takes_less_than_a_microsecond() {
    let (target, mut clock, mut buffer) = (target(), Clock::new(), Vec::with_capacity(64 << 10));
    for format in [LogFormat::Text, LogFormat::Json] {
        let rounds = 2_000_000_u64;
        let started = cpu_time();
        for round in 0..rounds {
            let entry = Entry {
                connection: Some(round),
                time: UNIX_EPOCH + Duration::from_micros(1_763_844_560_123_456 + 60 * round),
                ..full(&target)
            };
            entry.write(&mut buffer, format, &mut clock);
            if buffer.len() > 32 << 10 {
                std::hint::black_box(&buffer);
                buffer.clear();
            }
        }
        let each = (cpu_time() - started).as_nanos() as u64 / rounds;
        println!(
            "{format:?}: {each} ns a line of {} bytes",
            render(&full(&target), format).len()
        );
        assert!(each < 1000, "{format:?}: {each} ns");
    }
}

/// Of this thread, user and system.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .iter()
        .sum()
}
