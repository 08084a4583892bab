use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One worker that beats and listens.
fn ready() -> (Arc<Health>, Heartbeat) {
    let health = Health::new(1);
    let heartbeat = health.heartbeat(0);
    heartbeat.beat();
    health.listener_bound(0, address("0.0.0.0:7777"));
    (health, heartbeat)
}

/// As if the worker had beaten last that long ago.
fn age(health: &mut Arc<Health>, by: Duration) {
    Arc::get_mut(health).unwrap().started -= by;
}

#[test]
fn ready_when_every_worker_turns_and_listens() {
    let health = Health::new(2);
    assert!(health.report().alive(), "starting is alive");
    assert!(!health.report().ready());
    let pulses = [health.heartbeat(0), health.heartbeat(1)];
    pulses.iter().for_each(Heartbeat::beat);
    assert!(!health.report().ready(), "no listener");
    health.expect_listener(address("[::]:7777"));
    assert!(
        health
            .report()
            .text()
            .contains("listener [::]:7777: not bound\n")
    );
    health.listener_bound(0, address("[::]:7777"));
    assert!(!health.report().ready(), "one worker does not listen");
    assert!(
        health
            .report()
            .text()
            .contains("listener [::]:7777: bound by 1 of 2 workers\n")
    );
    health.listener_bound(1, address("[::]:7777"));
    assert!(health.report().ready());
    health.expect_listener(address("[::]:7778"));
    assert!(!health.report().ready(), "one more listener is expected");
    health.listener_closed(1, address("[::]:7777"));
    assert!(!health.report().ready());
}

#[test]
fn a_stalled_worker_is_named_with_since_when() {
    let mut health = Health::new(2);
    health.beat(0);
    age(&mut health, STALLED_AFTER + Duration::from_secs(2));
    health.beat(1);
    let report = health.report();
    assert!(!report.alive() && !report.ready());
    assert_eq!(report.workers[1].state, WorkerState::Ok);
    let text = report.workers_text();
    let (first, second) = text.split_once('\n').unwrap();
    assert!(
        first.starts_with("worker 0: stalled since 20") && first.contains("Z (loop 70"),
        "{first}"
    );
    assert!(second.starts_with("worker 1: ok (loop "), "{second}");
    health.beat(0);
    assert!(health.report().alive(), "it recovers");
}

#[test]
fn a_worker_that_never_starts_is_dead_in_the_end() {
    let mut health = Health::new(1);
    assert_eq!(health.report().workers_text(), "worker 0: starting\n");
    age(&mut health, STALLED_AFTER + Duration::from_secs(1));
    assert!(!health.report().alive());
    assert!(
        health
            .report()
            .workers_text()
            .starts_with("worker 0: did not start")
    );
}

#[test]
fn a_worker_that_ended_is_dead_unless_it_drained() {
    let (health, heartbeat) = ready();
    drop(heartbeat);
    assert!(!health.report().alive());
    health.set_draining();
    assert!(health.report().alive());
    assert_eq!(health.report().workers_text(), "worker 0: ended\n");
}

#[test]
fn draining_is_alive_but_not_ready() {
    let (health, _heartbeat) = ready();
    assert!(health.report().ready());
    health.set_draining();
    assert!(health.report().alive() && !health.report().ready());
    assert!(
        health
            .report()
            .text()
            .ends_with("draining: new connections are refused\n")
    );
}

#[test]
fn the_upstream_has_its_line_and_decides_nothing() {
    let (health, _heartbeat) = ready();
    assert!(
        !health.upstream_probed(Probed::Reachable(Duration::ZERO)),
        "there is none"
    );
    health.expect_upstream(Some("https://app.example:443"));
    assert!(
        health
            .report()
            .text()
            .ends_with("upstream https://app.example:443: not probed yet\n")
    );
    assert!(health.upstream_probed(Probed::Unreachable("refused".into())));
    assert!(health.report().ready());
    let since = health.report().upstream.unwrap().since;
    assert!(
        !health.upstream_probed(Probed::Unreachable("timed out".into())),
        "no news"
    );
    let text = health.report().text();
    assert!(
        text.ends_with(&format!(
            "upstream https://app.example:443: unreachable since {since} (timed out)\n"
        )),
        "{text}"
    );
    assert!(health.upstream_probed(Probed::Reachable(Duration::from_micros(3210))));
    assert!(
        health
            .report()
            .text()
            .ends_with("upstream https://app.example:443: reachable (3.21 ms)\n")
    );
    health.expect_upstream(Some("https://app.example:443"));
    assert_eq!(
        health.report().upstream.unwrap().reachable,
        Some(true),
        "the same upstream keeps its state"
    );
    health.expect_upstream(None);
    assert!(!health.report().text().contains("upstream"));
}
