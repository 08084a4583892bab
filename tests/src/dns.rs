//! A name server that says what a test wants to hear, over UDP (RFC 1035).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The server. Dropping it stops it.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    questions: AtomicUsize,
    names: Mutex<HashMap<String, Answer>>,
}

/// What is said about a name. Names that are not there do not exist.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These addresses, with this time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Nothing at all.
    Silence,
    /// The server says that it failed.
    Failure,
}

impl NameServer {
    /// Starts it on a port of 127.0.0.1.
    ///
    /// # Panics
    /// When no port can be bound.
    #[must_use]
    pub fn start() -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || answer_all(&socket, &shared))
        };
        NameServer {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Says from now on that `name` has these addresses.
    #[must_use]
    pub fn with(self, name: &str, addresses: &[&str]) -> NameServer {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        self.with_answer(name, Answer::Addresses(addresses, 60))
    }

    /// Says this about `name` from now on.
    #[must_use]
    pub fn with_answer(self, name: &str, answer: Answer) -> NameServer {
        self.set(name, answer);
        self
    }

    /// Says this about `name` from now on.
    ///
    /// # Panics
    /// Never, short of a poisoned lock.
    pub fn set(&self, name: &str, answer: Answer) {
        self.shared
            .names
            .lock()
            .unwrap()
            .insert(name.to_owned(), answer);
    }

    /// The configuration that names this server.
    #[must_use]
    pub fn config(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address)
    }

    /// Questions asked so far.
    #[must_use]
    pub fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread: a datagram is its only event.
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[], self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_all(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        shared.questions.fetch_add(1, Ordering::SeqCst);
        if let Some(answer) = answer(&buffer[..length], &shared.names.lock().unwrap()) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// The answer to a message, `None` for silence or what is no question.
fn answer(message: &[u8], names: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let header = message.get(..12)?;
    let (name, end) = question_name(message)?;
    let kind = u16::from_be_bytes(message.get(end..end + 2)?.try_into().ok()?);
    let question = message.get(12..end + 4)?;

    let (code, addresses, ttl) = match names.get(&name) {
        Some(Answer::Silence) => return None,
        Some(Answer::Failure) => (SERVER_FAILURE, Vec::new(), 0),
        Some(Answer::Addresses(addresses, ttl)) => (0, addresses.clone(), *ttl),
        None => (NO_SUCH_NAME, Vec::new(), 0),
    };
    let addresses: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|address| kind == if address.is_ipv4() { A } else { AAAA })
        .collect();

    let mut reply = header[..2].to_vec();
    // A response, authoritative, recursion desired and available.
    reply.extend_from_slice(&[
        0x85,
        0x80 | code,
        0,
        1,
        0,
        addresses.len() as u8,
        0,
        0,
        0,
        0,
    ]);
    reply.extend_from_slice(question);
    for address in addresses {
        // The name is the one of the question, at offset 12.
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&[0, 1]);
        reply.extend_from_slice(&ttl.to_be_bytes());
        match address {
            IpAddr::V4(v4) => reply.extend_from_slice(&[&[0, 4][..], &v4.octets()].concat()),
            IpAddr::V6(v6) => reply.extend_from_slice(&[&[0, 16][..], &v6.octets()].concat()),
        }
    }
    Some(reply)
}

/// The first question's name in lower case without the last dot, and where it ends.
fn question_name(message: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}
