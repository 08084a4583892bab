//! Whether the configuration's addresses can be listened on; and whether `hnp run` does already.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::Subject;
use super::report::{Group, Item};

/// For each step of asking a running HNP.
const ASKED: Duration = Duration::from_secs(1);
/// Bytes of its answer.
const MOST: u64 = 256 << 10;

pub(super) fn look(subject: &Subject) -> Vec<Item> {
    let mut group = Group::new("configuration");
    let file = subject.loaded.file.as_deref();
    let source = file.map_or("environment and flags".to_owned(), |file| {
        file.display().to_string()
    });
    group.ok("loads", source);
    for warning in &subject.loaded.warnings {
        let help = "change it, unless it is meant so";
        let help = warning.help.clone().unwrap_or_else(|| help.to_owned());
        let detail = format!("{}: {}", warning.place, warning.message);
        group.warn("warning", detail, help);
    }
    let admin = subject.config().admin.address;
    let running = admin.map(|admin| (admin, ask(admin)));
    running_hnp(&mut group, running.as_ref());
    let served = match &running {
        Some((_, Running::Hnp { listeners, .. })) => listeners.as_slice(),
        _ => &[],
    };
    for &address in &subject.config().listener.address {
        listener(&mut group, address, served);
    }
    if let Some((address, running)) = running {
        match (TcpListener::bind(address), running) {
            (Ok(_), _) => group.ok("admin", format!("{address} is free")),
            (Err(_), Running::Hnp { .. }) => {
                group.ok("admin", format!("{address} is served by a running hnp"));
            }
            (Err(error), _) => refused(&mut group, "admin", "admin.address", address, &error),
        }
    }
    group.items
}

/// What answers on the admin address.
enum Running {
    Nobody,
    Hnp {
        ready: bool,
        listeners: Vec<SocketAddr>,
    },
    Somebody(String),
}

fn running_hnp(group: &mut Group, running: Option<&(SocketAddr, Running)>) {
    let Some((admin, running)) = running else {
        group.ok("running", "not known: admin.address is off");
        return;
    };
    match running {
        Running::Nobody => group.ok("running", format!("no hnp answers on {admin}")),
        Running::Hnp { ready: true, .. } => {
            group.ok("running", format!("an hnp is running and ready ({admin})"));
        }
        Running::Hnp { ready: false, .. } => group.warn(
            "running",
            format!("an hnp is running, but not ready ({admin})"),
            format!("`curl http://{admin}/readyz` says what it waits for"),
        ),
        Running::Somebody(what) => group.warn(
            "running",
            format!("something on {admin} is not hnp: {what}"),
            "end it, or choose another admin.address",
        ),
    }
}

fn listener(group: &mut Group, address: SocketAddr, served: &[SocketAddr]) {
    match TcpListener::bind(address) {
        Ok(_) => group.ok("listener", format!("{address} can be listened on")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && served.contains(&address) => {
            group.ok(
                "listener",
                format!("{address} is served by the running hnp"),
            );
        }
        Err(error) => refused(group, "listener", "listener.address", address, &error),
    }
}

fn refused(
    group: &mut Group,
    name: &'static str,
    key: &str,
    address: SocketAddr,
    error: &io::Error,
) {
    let port = address.port();
    let (why, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another process listens there".to_owned(),
            format!("`ss -ltnp 'sport = :{port}'` names it: end it, or choose another {key}"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "no interface of this host has that address".to_owned(),
            format!("correct {key}"),
        ),
        io::ErrorKind::PermissionDenied => (
            "the kernel forbids it".to_owned(),
            format!("grant CAP_NET_BIND_SERVICE, which low ports need, or choose another {key}"),
        ),
        _ => (error.to_string(), format!("choose another {key}")),
    };
    group.fail(
        name,
        format!("{address} cannot be listened on: {why}"),
        remedy,
    );
}

/// Asks who answers on the admin address.
fn ask(admin: SocketAddr) -> Running {
    match answer(reachable(admin)) {
        Ok(answer) => judge(&answer),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Running::Nobody,
        Err(error) => match TcpListener::bind(admin) {
            Ok(_) => Running::Nobody,
            Err(_) => Running::Somebody(error.to_string()),
        },
    }
}

/// Everywhere is here, too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn answer(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ASKED)?;
    stream.set_read_timeout(Some(ASKED))?;
    stream.set_write_timeout(Some(ASKED))?;
    let request =
        format!("GET /readyz?json HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(answer: &str) -> Running {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let report: Value = serde_json::from_str(body).unwrap_or_default();
    let (Some(ready), Some(listeners)) = (report["ok"].as_bool(), report["listeners"].as_array())
    else {
        let first = head.lines().next().unwrap_or_default();
        return Running::Somebody(format!("it answers `{first}`"));
    };
    let addresses = listeners
        .iter()
        .filter_map(|listener| listener["address"].as_str()?.parse().ok());
    Running::Hnp {
        ready,
        listeners: addresses.collect(),
    }
}
