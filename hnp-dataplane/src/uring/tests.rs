//! Both backends, driven by plain blocking sockets on the other side.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Every test runs on both; a machine that forbids io_uring fails here and says why.
fn on_both(test: impl AsyncFn()) {
    assert_eq!(why_unavailable(), None, "this test needs io_uring");
    for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
        println!("on {}", mechanism.name());
        run(mechanism, test()).unwrap();
    }
}

fn listen() -> (Listener, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let fd = Listener::bind(any, &ListenerOptions { backlog: 1024 }).unwrap();
    let address = socket2::SockRef::from(&fd)
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap();
    (Listener::from_fd(fd).unwrap(), address)
}

async fn accept(listener: &Listener) -> Socket {
    loop {
        match listener.try_accept() {
            Ok((socket, _)) => return socket,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.readable().await.unwrap(),
            Err(e) => panic!("{e}"),
        }
    }
}

async fn pair() -> (Socket, TcpStream) {
    let (listener, address) = listen();
    let client = TcpStream::connect(address).unwrap();
    (accept(&listener).await, client)
}

#[test]
fn echoes() {
    on_both(async || {
        let (socket, mut client) = pair().await;
        let other = thread::spawn(move || {
            client.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            client.read_exact(&mut back).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            back
        });
        let mut buffer = [0; 64];
        let n = socket.read(&mut buffer).await.unwrap();
        socket.write_all(&buffer[..n]).await.unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(&other.join().unwrap(), b"hello");
    });
}

#[test]
fn connects_and_reports_a_refusal() {
    on_both(async || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Socket::connect(address).await.unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"x").unwrap();
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 1);
        drop(listener);
        let refused = Socket::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_dropped_socket_closes_although_a_wait_was_pending() {
    on_both(async || {
        let (socket, mut client) = pair().await;
        spawn(async move {
            let mut wait = pin!(socket.readable());
            // Begin the wait, let the kernel have it, then drop both.
            std::future::poll_fn(|cx| {
                assert!(wait.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            sleep(Duration::from_millis(5)).await;
        });
        let (done, closed) = tokio::sync::oneshot::channel();
        thread::spawn(move || done.send(client.read(&mut [0; 1]).unwrap()).unwrap());
        assert_eq!(closed.await.unwrap(), 0);
    });
}

#[test]
fn waits_for_room_to_write_without_spinning_when_the_peer_has_half_closed() {
    on_both(async || {
        let (socket, mut client) = pair().await;
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);
        let chunk = vec![7; 1 << 20];
        let mut sent = 0;
        loop {
            match socket.try_write(&chunk) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        let wakes = Rc::new(Cell::new(0));
        let counted = Rc::clone(&wakes);
        let stalled = async {
            loop {
                socket.writable().await.unwrap();
                counted.set(counted.get() + 1);
                match socket.try_write(&chunk) {
                    Ok(n) => return n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => panic!("{e}"),
                }
            }
        };
        let mut stalled = pin!(stalled);
        assert_eq!(
            timeout(Duration::from_millis(200), stalled.as_mut()).await,
            Err(Elapsed)
        );
        assert!(
            wakes.get() <= 2,
            "{} wakes while nothing could be written",
            wakes.get()
        );
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        sent += stalled.await;
        socket.shutdown_write().unwrap();
        let (done, read) = tokio::sync::oneshot::channel();
        thread::spawn(move || done.send(reader.join().unwrap()).unwrap());
        assert_eq!(read.await.unwrap(), sent);
    });
}

#[test]
fn a_reset_is_an_error_on_the_other_side() {
    on_both(async || {
        let (socket, mut client) = pair().await;
        socket.reset();
        let (done, error) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            done.send(client.read(&mut [0; 1]).unwrap_err().kind())
                .unwrap()
        });
        assert_eq!(error.await.unwrap(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn timers_fire_in_order_and_leave_nothing_when_dropped() {
    on_both(async || {
        let started = Instant::now();
        assert_eq!(
            timeout(Duration::from_millis(20), std::future::pending::<()>()).await,
            Err(Elapsed)
        );
        assert!(started.elapsed() >= Duration::from_millis(20));
        assert_eq!(
            timeout(Duration::from_secs(3600), std::future::ready(1)).await,
            Ok(1)
        );
        let mut long = sleep(Duration::from_secs(3600));
        std::future::poll_fn(|cx| {
            assert!(std::pin::Pin::new(&mut long).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(long);
        assert_eq!(executor::with_timers(|timers| timers.next()), None);
    });
}

#[test]
fn other_threads_wake_a_sleeping_worker() {
    on_both(async || {
        for turn in 0..100 {
            let (done, answer) = tokio::sync::oneshot::channel();
            thread::spawn(move || done.send(turn).unwrap());
            let (relayed, from_task) = tokio::sync::oneshot::channel();
            spawn(async move { relayed.send(answer.await.unwrap()).unwrap() });
            assert_eq!(from_task.await.unwrap(), turn);
        }
    });
}

#[test]
fn a_panicking_task_ends_alone() {
    on_both(async || {
        spawn(async { panic!("on purpose") });
        let (done, answer) = tokio::sync::oneshot::channel();
        spawn(async move { done.send(7).unwrap() });
        assert_eq!(answer.await.unwrap(), 7);
        assert_eq!(task_count(), 0);
    });
}

#[test]
fn the_end_of_the_runtime_drops_what_still_waits() {
    for mechanism in [Mechanism::IoUring, Mechanism::Epoll] {
        let held = Rc::new(());
        let weak = Rc::downgrade(&held);
        run(mechanism, async move {
            let on_timer = Rc::clone(&held);
            spawn(async move {
                sleep(Duration::from_secs(3600)).await;
                drop(on_timer);
            });
            let (started, start) = tokio::sync::oneshot::channel();
            spawn(async move {
                let (socket, _client) = pair().await;
                started.send(()).unwrap();
                socket.readable().await.unwrap();
                drop(held);
            });
            start.await.unwrap();
        })
        .unwrap();
        assert!(
            weak.upgrade().is_none(),
            "{}: a waiting task outlived its runtime",
            mechanism.name()
        );
    }
}

#[test]
fn many_pairs_at_once() {
    on_both(async || {
        let (listener, address) = listen();
        let clients = thread::spawn(move || {
            let mut sockets: Vec<_> = (0..300)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            for round in 0..5u8 {
                for socket in &mut sockets {
                    socket.write_all(&[round; 100]).unwrap();
                }
                for socket in &mut sockets {
                    let mut back = [0; 100];
                    socket.read_exact(&mut back).unwrap();
                    assert_eq!(back, [round; 100]);
                }
            }
        });
        let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..300 {
            let socket = accept(&listener).await;
            let done = done.clone();
            spawn(async move {
                let mut buffer = [0; 256];
                loop {
                    match socket.read(&mut buffer).await.unwrap() {
                        0 => break,
                        n => socket.write_all(&buffer[..n]).await.unwrap(),
                    }
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..300 {
            ended.recv().await.unwrap();
        }
        clients.join().unwrap();
    });
}
