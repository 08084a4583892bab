//! A name server for tests: a table of replies over UDP and TCP on loopback, which counts its questions and can hold its tongue.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::Name;
use tokio::runtime::Handle;

use super::resolver::{Resolver, name_server};
use crate::config::Config;

/// What the server says to a question.
#[derive(Clone, Default)]
pub(super) struct Reply {
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds, of records and of negative answers.
    pub(super) ttl: u32,
    /// An alias to resolve the addresses under, with a TTL of its own.
    pub(super) alias: Option<(&'static str, u32)>,
    /// RCODE.
    pub(super) code: u8,
    /// Over UDP only the header and TC.
    pub(super) truncated: bool,
    /// Not before [`DnsServer::release`].
    pub(super) held: bool,
    /// Never.
    pub(super) silent: bool,
}

impl Reply {
    pub(super) fn of(ttl: u32, addresses: &[&str]) -> Reply {
        Reply {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ttl,
            ..Reply::default()
        }
    }
}

/// Messages that wait for [`DnsServer::release`].
type Held = Vec<(Vec<u8>, SocketAddr)>;

type Table = HashMap<(&'static str, u16), Reply>;

pub(super) struct DnsServer {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// Tells of each question that is held.
    pub(super) holding: Mutex<Receiver<()>>,
    held: Arc<Mutex<Held>>,
    udp: Arc<UdpSocket>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl DnsServer {
    /// Names without an entry of either type are NXDOMAIN, of the other type only NODATA.
    pub(super) fn start(entries: Vec<(&'static str, &'static str, Reply)>) -> DnsServer {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let table: Table = entries
            .into_iter()
            .map(|(name, kind, reply)| ((name, if kind == "A" { A } else { AAAA }), reply))
            .collect();
        let table = Arc::new(table);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let held = Arc::new(Mutex::new(Vec::new()));
        let (tell, holding) = mpsc::channel();
        // Both threads end with the process.
        thread::spawn({
            let (udp, table, asked, held) =
                (udp.clone(), table.clone(), asked.clone(), held.clone());
            move || serve_udp(&udp, &table, &asked, &held, &tell)
        });
        thread::spawn({
            let asked = asked.clone();
            move || serve_tcp(&tcp, &table, &asked)
        });
        DnsServer {
            address,
            asked,
            holding: Mutex::new(holding),
            held,
            udp,
        }
    }

    /// `A name` for each question so far, repetitions of a held or silent one included.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }

    /// Sends what is held.
    pub(super) fn release(&self) {
        for (message, to) in self.held.lock().unwrap().drain(..) {
            self.udp.send_to(&message, to).unwrap();
        }
    }

    pub(super) fn resolver(
        &self,
        toml: &str,
        hosts: &std::path::Path,
        control: Handle,
    ) -> Resolver {
        self.resolver_with(toml, &[], 1, hosts, control)
    }

    pub(super) fn resolver_with(
        &self,
        toml: &str,
        search: &[&str],
        ndots: usize,
        hosts: &std::path::Path,
        control: Handle,
    ) -> Resolver {
        let config: Config = toml::from_str(toml).unwrap();
        let search = search
            .iter()
            .map(|domain| Name::from_ascii(domain).unwrap())
            .collect();
        let servers = ResolverConfig::from_parts(None, search, vec![name_server(self.address)]);
        let mut options = ResolverOpts::default();
        options.ndots = ndots;
        Resolver::with(&config, servers, options, hosts.to_owned(), control).unwrap()
    }
}

fn serve_udp(
    udp: &UdpSocket,
    table: &Table,
    asked: &Mutex<Vec<String>>,
    held: &Mutex<Held>,
    tell: &Sender<()>,
) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = udp.recv_from(&mut buffer) {
        let (reply, message) = answer(&buffer[..length], table, asked, true);
        if reply.held {
            held.lock().unwrap().push((message, from));
            let _ = tell.send(());
        } else if !reply.silent {
            udp.send_to(&message, from).unwrap();
        }
    }
}

fn serve_tcp(tcp: &TcpListener, table: &Table, asked: &Mutex<Vec<String>>) {
    while let Ok((mut stream, _)) = tcp.accept() {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let (_, message) = answer(&query, table, asked, false);
            stream
                .write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&message).unwrap();
        }
    }
}

/// RFC 1035 section 4, as little of it as answers need.
fn answer(query: &[u8], table: &Table, asked: &Mutex<Vec<String>>, udp: bool) -> (Reply, Vec<u8>) {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_ascii_lowercase()).unwrap());
        at = end;
    }
    let question_end = at + 5;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let text = if kind == A { "A" } else { "AAAA" };
    let transport = if udp { "" } else { " tcp" };
    asked
        .lock()
        .unwrap()
        .push(format!("{text} {name}{transport}"));

    let known = table.keys().find(|(known, _)| *known == name);
    let reply = table
        .get(&(known.map_or("", |(known, _)| known), kind))
        .cloned()
        .unwrap_or_else(|| Reply {
            code: if known.is_some() { 0 } else { 3 },
            ttl: known.map_or(60, |known| table[known].ttl),
            ..Reply::default()
        });
    let truncated = reply.truncated && udp;
    let answers = if truncated {
        0
    } else {
        reply.addresses.len() + usize::from(reply.alias.is_some())
    };
    let negative = answers == 0 && !truncated && matches!(reply.code, 0 | 3);

    let mut message = query[..2].to_vec();
    message.push(0x81 | if truncated { 2 } else { 0 });
    message.push(0x80 | reply.code);
    for count in [1, u16::try_from(answers).unwrap(), u16::from(negative), 0] {
        message.extend(count.to_be_bytes());
    }
    message.extend(&query[12..question_end]);
    let record = |message: &mut Vec<u8>, name: &[u8], kind: u16, ttl: u32, data: &[u8]| {
        message.extend(name);
        message.extend(kind.to_be_bytes());
        message.extend(1u16.to_be_bytes());
        message.extend(ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    };
    let mut owner = vec![0xc0, 12];
    if answers > 0 {
        if let Some((alias, ttl)) = reply.alias {
            let mut wire = Vec::new();
            for label in alias.split('.') {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label.bytes());
            }
            wire.push(0);
            record(&mut message, &owner, 5, ttl, &wire);
            owner = wire;
        }
        for address in &reply.addresses {
            match address {
                IpAddr::V4(v4) => record(&mut message, &owner, A, reply.ttl, &v4.octets()),
                IpAddr::V6(v6) => record(&mut message, &owner, AAAA, reply.ttl, &v6.octets()),
            }
        }
    }
    if negative {
        let mut soa = vec![0, 0];
        for number in [1, 3600, 600, 86400, reply.ttl] {
            soa.extend(u32::to_be_bytes(number));
        }
        record(&mut message, &[0], 6, reply.ttl, &soa);
    }
    (reply, message)
}
