//! The relay between plain blocking sockets; the suites of the `tests` crate drive it through the whole of `hnp`.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::uring::Mechanism;
use crate::uring::Socket;

#[derive(Default)]
struct Counts(RefCell<(usize, usize)>);

impl Ledger for Counts {
    fn sent_up(&self, bytes: usize) {
        self.0.borrow_mut().0 += bytes;
    }
    fn sent_down(&self, bytes: usize) {
        self.0.borrow_mut().1 += bytes;
    }
}

const LONG: Times = Times {
    idle: Duration::from_secs(60),
    until: None,
};

/// [`Bounds`] but for the signal, which the relay's thread makes.
#[derive(Clone, Copy)]
struct Times {
    idle: Duration,
    until: Option<Instant>,
}

/// A relay under test: what the test holds of both ends, and what the relay came to.
struct Outcome {
    end: End,
    up: usize,
    down: usize,
    pools: PoolCounts,
}

/// Relays on `mechanism` between two sockets, whose other ends `drive` plays on a thread of its own.
fn relayed<T: Send + 'static>(
    mechanism: Mechanism,
    early_up: &[u8],
    times: Times,
    drive: impl FnOnce(TcpStream, TcpStream) -> T + Send + 'static,
) -> (Outcome, T) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ends = || {
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (far, near)
    };
    let (client, near_client) = ends();
    let (upstream, near_upstream) = ends();
    let driver: JoinHandle<T> = thread::spawn(move || drive(client, upstream));
    let early_up = early_up.to_vec();
    let outcome = uring::run(mechanism, async move {
        let counts = Rc::new(Counts::default());
        let pools = Pools::default();
        let client = Socket::from_fd(near_client.into()).unwrap();
        let upstream = Socket::from_fd(near_upstream.into()).unwrap();
        let stop = Signal::default();
        let Times { idle, until } = times;
        let bounds = Bounds {
            idle,
            until,
            stop: &stop,
        };
        let client = Leg::new(client.into(), early_up);
        let upstream = Leg::new(upstream.into(), Vec::new());
        let end = relay(&client, &upstream, &bounds, &pools, &*counts).await;
        let (up, down) = *counts.0.borrow();
        Outcome {
            end,
            up,
            down,
            pools: pools.counts(),
        }
    })
    .unwrap();
    (outcome, driver.join().unwrap())
}

const BOTH: [Mechanism; 2] = [Mechanism::IoUring, Mechanism::Epoll];

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn passes_everything_both_ways_at_once_and_both_half_closes() {
    for mechanism in BOTH {
        let up = pattern(20_000_001, 1);
        let down = pattern(7_000_003, 2);
        let (sent_up, sent_down) = (up.clone(), down.clone());
        let (outcome, (got_up, got_down)) = relayed(
            mechanism,
            b"early",
            LONG,
            move |mut client, mut upstream| {
                let (mut client2, mut upstream2) =
                    (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let writers = [
                    thread::spawn(move || {
                        client2.write_all(&sent_up).unwrap();
                        client2.shutdown(Shutdown::Write).unwrap();
                    }),
                    thread::spawn(move || {
                        upstream2.write_all(&sent_down).unwrap();
                        upstream2.shutdown(Shutdown::Write).unwrap();
                    }),
                ];
                let reader = thread::spawn(move || {
                    let mut all = Vec::new();
                    upstream.read_to_end(&mut all).unwrap();
                    all
                });
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                for writer in writers {
                    writer.join().unwrap();
                }
                (reader.join().unwrap(), all)
            },
        );
        assert!(got_up.strip_prefix(b"early").unwrap() == up && got_down == down);
        assert!(
            matches!(outcome.end, End::Finished { .. }),
            "{:?}",
            outcome.end
        );
        assert_eq!((outcome.up, outcome.down), (up.len() + 5, down.len()));
        assert_eq!(outcome.pools.pipes_leased, 0);
        assert!(outcome.pools.pipes_spare >= 1, "bulk was not spliced");
    }
}

#[test]
fn an_end_of_one_direction_leaves_the_other_open() {
    for mechanism in BOTH {
        let (outcome, answer) = relayed(mechanism, b"", LONG, |mut client, mut upstream| {
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut question = Vec::new();
            upstream.read_to_end(&mut question).unwrap();
            assert_eq!(question, b"question");
            upstream.write_all(b"answer after the end").unwrap();
            drop(upstream);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        });
        assert_eq!(answer, b"answer after the end");
        assert!(
            matches!(
                outcome.end,
                End::Finished {
                    first: Side::Client
                }
            ),
            "{:?}",
            outcome.end
        );
    }
}

#[test]
fn a_reset_of_either_side_reaches_the_other_as_a_reset() {
    for mechanism in BOTH {
        for side in [Side::Client, Side::Upstream] {
            let (outcome, error) = relayed(mechanism, b"", LONG, move |client, upstream| {
                let (breaks, mut sees) = match side {
                    Side::Client => (client, upstream),
                    Side::Upstream => (upstream, client),
                };
                socket2::SockRef::from(&breaks)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                drop(breaks);
                sees.read(&mut [0; 1]).unwrap_err().kind()
            });
            assert_eq!(error, ErrorKind::ConnectionReset);
            assert!(
                matches!(outcome.end, End::Broken { side: at, .. } if at == side),
                "{:?}",
                outcome.end
            );
        }
    }
}

#[test]
fn a_stalled_reader_stops_the_writer() {
    for mechanism in BOTH {
        let (outcome, (written, read)) =
            relayed(mechanism, b"", LONG, |mut client, mut upstream| {
                upstream
                    .set_write_timeout(Some(Duration::from_millis(300)))
                    .unwrap();
                let chunk = [9; 1 << 16];
                let mut written = 0;
                while let Ok(n) = upstream.write(&chunk) {
                    written += n;
                    assert!(
                        written < 64 << 20,
                        "64 MiB went to a reader that reads nothing"
                    );
                }
                upstream.shutdown(Shutdown::Write).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut read = Vec::new();
                client.read_to_end(&mut read).unwrap();
                (written, read.len())
            });
        assert_eq!(written, read);
        assert_eq!(outcome.down, read);
    }
}

#[test]
fn a_reset_is_seen_although_the_other_side_is_stalled() {
    for mechanism in BOTH {
        let (outcome, seen) = relayed(mechanism, b"", LONG, |mut client, upstream| {
            client
                .set_write_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            while client.write(&[9; 1 << 16]).is_ok() {}
            socket2::SockRef::from(&client)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(client);
            let mut fds = [PollFd::new(upstream.as_fd(), PollFlags::empty())];
            let seen = poll(&mut fds, PollTimeout::from(20_000u16)).unwrap();
            (seen, fds[0].revents())
        });
        assert_eq!(seen.0, 1, "the upstream was not told within 20 s");
        assert!(seen.1.unwrap().contains(PollFlags::POLLERR));
        assert!(
            matches!(
                outcome.end,
                End::Broken {
                    side: Side::Client,
                    ..
                }
            ),
            "{:?}",
            outcome.end
        );
    }
}

#[test]
fn silence_and_age_end_a_tunnel() {
    for mechanism in BOTH {
        let idle = Times {
            idle: Duration::from_millis(50),
            until: None,
        };
        let (outcome, error) = relayed(mechanism, b"", idle, |mut client, _upstream| {
            client.read(&mut [0; 1]).unwrap_err().kind()
        });
        assert!(matches!(outcome.end, End::Idle), "{:?}", outcome.end);
        assert_eq!(error, ErrorKind::ConnectionReset);

        let aged = Times {
            until: Some(Instant::now() + Duration::from_millis(50)),
            ..LONG
        };
        let (outcome, _) = relayed(mechanism, b"", aged, |mut client, _upstream| {
            client.read(&mut [0; 1]).unwrap_err();
        });
        assert!(matches!(outcome.end, End::Expired), "{:?}", outcome.end);
    }
}

#[test]
fn an_idle_relay_is_small() {
    // 8,000 idle tunnels at 3 KiB each leave no room for a fat future; this one is boxed once for each tunnel.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let size = uring::run(Mechanism::Epoll, async move {
        let socket = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.set_nonblocking(true).unwrap();
            Socket::from_fd(stream.into()).unwrap()
        };
        let (pools, counts, stop) = (Pools::default(), Counts::default(), Signal::default());
        let bounds = Bounds {
            idle: LONG.idle,
            until: None,
            stop: &stop,
        };
        let leg = || Leg::new(socket().into(), Vec::new());
        size_of_val(&relay(&leg(), &leg(), &bounds, &pools, &counts))
    })
    .unwrap();
    assert!(size <= 1280, "{size} bytes");
}
