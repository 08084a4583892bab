//! The race on a fake network under tokio's paused clock: every instant below is exact.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::time;

use super::*;
use crate::policy::special::Special;

/// After how long a connection to an address comes about, or fails.
type Script = HashMap<IpAddr, (u64, Result<(), i32>)>;

struct Fake {
    script: Script,
    begun: time::Instant,
    /// Milliseconds and address of each attempt, and of each that was dropped unfinished.
    started: RefCell<Vec<(u64, IpAddr)>>,
    dropped: Rc<RefCell<Vec<IpAddr>>>,
}

struct Attempt {
    address: IpAddr,
    done: bool,
    dropped: Rc<RefCell<Vec<IpAddr>>>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.done {
            self.dropped.borrow_mut().push(self.address);
        }
    }
}

impl Network for Fake {
    type Stream = IpAddr;

    async fn connect(&self, address: SocketAddr) -> io::Result<IpAddr> {
        let address = address.ip();
        let at = self.begun.elapsed().as_millis().try_into().unwrap();
        self.started.borrow_mut().push((at, address));
        let mut attempt = Attempt {
            address,
            done: false,
            dropped: Rc::clone(&self.dropped),
        };
        match self.script.get(&address) {
            Some((after, result)) => {
                time::sleep(Duration::from_millis(*after)).await;
                attempt.done = true;
                result
                    .map(|()| address)
                    .map_err(io::Error::from_raw_os_error)
            }
            None => pending().await,
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        time::sleep(duration)
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }
}

/// Batches, each at its millisecond.
struct Answers {
    begun: time::Instant,
    batches: VecDeque<(u64, Batch)>,
}

impl Feed for Answers {
    async fn next(&mut self) -> Option<Batch> {
        let (at, _) = self.batches.front()?;
        time::sleep_until(self.begun + Duration::from_millis(*at)).await;
        self.batches.pop_front().map(|(_, batch)| batch)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn batch(text: &str) -> Batch {
    let addresses: Arc<[IpAddr]> = text[3..].split_whitespace().map(ip).collect();
    if text.starts_with("v4:") {
        Batch::V4(addresses)
    } else {
        Batch::V6(addresses)
    }
}

/// `answers`: (millisecond, `"v6:a b"`); `script`: (address, milliseconds, errno or 0).
async fn run(
    answers: &[(u64, &str)],
    script: &[(&str, u64, i32)],
    allowed: impl Fn(IpAddr) -> bool,
) -> (Result<Won<IpAddr>, Lost>, Fake) {
    let begun = time::Instant::now();
    let fake = Fake {
        script: script
            .iter()
            .map(|(address, after, errno)| {
                (
                    ip(address),
                    (*after, if *errno == 0 { Ok(()) } else { Err(*errno) }),
                )
            })
            .collect(),
        begun,
        started: RefCell::default(),
        dropped: Rc::default(),
    };
    let batches = answers
        .iter()
        .map(|(at, text)| (*at, batch(text)))
        .collect();
    let decide = |address| Decision {
        allowed: allowed(address),
        reported: false,
        reason: if allowed(address) {
            Reason::PublicAddress
        } else {
            Reason::SpecialAddress {
                address,
                kind: Special::Private,
            }
        },
    };
    let result = race(
        &fake,
        443,
        Answers { begun, batches },
        Duration::from_secs(10),
        decide,
    )
    .await;
    (result, fake)
}

fn started(fake: &Fake) -> Vec<String> {
    fake.started
        .borrow()
        .iter()
        .map(|(at, address)| format!("{at} {address}"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn ipv6_first_then_alternating_a_delay_apart() {
    let answers = [(0, "v6:2600::1 2600::2 2600::3"), (0, "v4:9.0.0.1 9.0.0.2")];
    let (result, fake) = run(&answers, &[("2600::3", 20, 0)], |_| true).await;
    let won = result.unwrap();
    assert_eq!(won.stream, ip("2600::3"));
    assert_eq!(
        started(&fake),
        [
            "0 2600::1",
            "250 9.0.0.1",
            "500 2600::2",
            "750 9.0.0.2",
            "1000 2600::3"
        ]
    );
    assert_eq!(won.connect, Duration::from_millis(1020));
    let mut losers = fake.dropped.borrow().clone();
    losers.sort();
    assert_eq!(
        losers,
        [ip("9.0.0.1"), ip("9.0.0.2"), ip("2600::1"), ip("2600::2")],
        "losers are closed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_at_once() {
    let answers = [(0, "v6:2600::1"), (0, "v4:9.0.0.1 9.0.0.2")];
    let script = [
        ("2600::1", 0, libc::ENETUNREACH),
        ("9.0.0.1", 30, libc::ECONNREFUSED),
        ("9.0.0.2", 5, 0),
    ];
    let (result, fake) = run(&answers, &script, |_| true).await;
    assert_eq!(result.unwrap().address, "9.0.0.2:443".parse().unwrap());
    assert_eq!(started(&fake), ["0 2600::1", "0 9.0.0.1", "30 9.0.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn ipv4_waits_for_ipv6_answers_but_not_long() {
    // IPv6 comes within the delay: it goes first.
    let (result, fake) = run(
        &[(10, "v4:9.0.0.1"), (40, "v6:2600::1")],
        &[("2600::1", 5, 0)],
        |_| true,
    )
    .await;
    let won = result.unwrap();
    assert_eq!(started(&fake), ["40 2600::1"]);
    assert_eq!(
        (won.resolve, won.connect),
        (Duration::from_millis(40), Duration::from_millis(5))
    );
    // "No IPv6" ends the wait.
    let (_, fake) = run(
        &[(10, "v4:9.0.0.1"), (20, "v6:")],
        &[("9.0.0.1", 5, 0)],
        |_| true,
    )
    .await;
    assert_eq!(started(&fake), ["20 9.0.0.1"]);
    // Silence does not prolong it; IPv6 joins when it comes, in its turn.
    let (_, fake) = run(
        &[(10, "v4:9.0.0.1 9.0.0.2"), (100, "v6:2600::1")],
        &[("2600::1", 5, 0)],
        |_| true,
    )
    .await;
    assert_eq!(started(&fake), ["60 9.0.0.1", "310 2600::1"]);
}

#[tokio::test(start_paused = true)]
async fn ipv6_does_not_wait_for_ipv4_answers() {
    let answers = [(5, "v6:2600::1"), (2000, "v4:9.0.0.1")];
    let (result, fake) = run(&answers, &[("9.0.0.1", 5, 0)], |_| true).await;
    // By then the attempt delay is long over.
    assert_eq!(started(&fake), ["5 2600::1", "2000 9.0.0.1"]);
    assert_eq!(result.unwrap().stream, ip("9.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_allowed_is_never_dialled() {
    let answers = [(0, "v6:fd00::1"), (0, "v4:10.0.0.1 9.0.0.1")];
    let allowed = |address: IpAddr| address == ip("9.0.0.1");
    let (result, fake) = run(&answers, &[("9.0.0.1", 5, 0), ("10.0.0.1", 0, 0)], allowed).await;
    assert_eq!(result.unwrap().stream, ip("9.0.0.1"));
    assert_eq!(started(&fake), ["0 9.0.0.1"]);

    let (result, fake) = run(&answers, &[("10.0.0.1", 0, 0)], |_| false).await;
    assert!(
        matches!(result, Err(Lost::Refused(Reason::SpecialAddress { address, .. })) if address == ip("fd00::1")),
        "{result:?}"
    );
    assert!(started(&fake).is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_addresses_there_is_no_race() {
    let (result, _) = run(&[(3, "v6:"), (5, "v4:")], &[], |_| true).await;
    assert!(matches!(result, Err(Lost::NoAddress)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn the_most_telling_failure_is_reported() {
    let answers = [(0, "v6:2600::1"), (0, "v4:9.0.0.1 9.0.0.2")];
    let script = [
        ("2600::1", 0, libc::ENETUNREACH),
        ("9.0.0.1", 1, libc::ECONNREFUSED),
        ("9.0.0.2", 1, libc::EHOSTUNREACH),
    ];
    let (result, _) = run(&answers, &script, |_| true).await;
    let Err(Lost::Failed {
        tried,
        address,
        error,
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(
        (tried, address.ip(), error.raw_os_error()),
        (3, ip("9.0.0.1"), Some(libc::ECONNREFUSED))
    );
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_for_all_attempts_from_the_first_on() {
    let begun = time::Instant::now();
    let (result, fake) = run(&[(300, "v6:2600::1"), (300, "v4:9.0.0.1")], &[], |_| true).await;
    assert!(
        matches!(result, Err(Lost::TimedOut { tried: 2, .. })),
        "{result:?}"
    );
    assert_eq!(begun.elapsed(), Duration::from_millis(10_300));
    assert_eq!(fake.dropped.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_named_twice_is_tried_once() {
    let (_, fake) = run(
        &[(0, "v6:"), (0, "v4:9.0.0.1 9.0.0.1")],
        &[("9.0.0.1", 1, libc::ECONNREFUSED)],
        |_| true,
    )
    .await;
    assert_eq!(started(&fake), ["0 9.0.0.1"]);
}
