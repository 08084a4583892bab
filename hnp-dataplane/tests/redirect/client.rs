//! The process inside a pod: this very test binary, started again.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process,
};

use hnp_dataplane::redirect::NetNs;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::ways;

#[test]
#[ignore = "the process inside a pod, started by the other tests"]
fn client() {
    let var = |name: &str| env::var(name).unwrap();
    // Before any socket is made: a socket belongs to the cgroup of its making.
    let procs = PathBuf::from(var("HNP_CLIENT_CGROUP")).join("cgroup.procs");
    fs::write(procs, process::id().to_string()).unwrap();
    let netns = NetNs::open(&PathBuf::from(var("HNP_CLIENT_NETNS"))).unwrap();
    let commands = var("HNP_CLIENT");
    netns
        .run(|| {
            for command in commands.lines() {
                let words: Vec<&str> = command.split(' ').collect();
                // Cargo's harness has not ended its own line yet.
                println!("\n= {}", run(&words).unwrap_or_else(|error| told(&error)));
            }
        })
        .unwrap();
}

fn run(words: &[&str]) -> io::Result<String> {
    match *words {
        ["tcp", to] => talk(TcpStream::connect(to)?),
        ["bound", device, to] => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind_device(Some(device.as_bytes()))?;
            socket.connect(&to.parse::<SocketAddr>().unwrap().into())?;
            Ok("connected".into())
        }
        ["exchange", to, bytes] => {
            let mut stream = TcpStream::connect(to)?;
            stream.write_all(&vec![7; bytes.parse().unwrap()])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let read = stream.read_to_end(&mut Vec::new())?;
            Ok(format!("{read}"))
        }
        ["udp", to] => {
            let to: SocketAddr = to.parse().unwrap();
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any)?.send_to(b"x", to)?;
            Ok("sent".into())
        }
        ["udp-connect", to] => {
            UdpSocket::bind("0.0.0.0:0")?.connect(to)?;
            Ok("connected".into())
        }
        ["run", to] => {
            TcpStream::connect(to)?.write_all(b"and away")?;
            Ok("gone".into())
        }
        ["same-port", port, ref to @ ..] => {
            let mut sockets = Vec::new();
            for to in to {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                let own = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.parse().unwrap()));
                socket.bind(&own.into())?;
                socket.connect(&to.parse::<SocketAddr>().unwrap().into())?;
                sockets.push(socket);
            }
            Ok("connected".into())
        }
        ["outside", to] => {
            let inside = PathBuf::from(env::var("HNP_CLIENT_CGROUP").unwrap());
            let pid = process::id().to_string();
            fs::write(inside.parent().unwrap().join("cgroup.procs"), &pid)?;
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            fs::write(inside.join("cgroup.procs"), &pid)?;
            socket.connect(&to.parse::<SocketAddr>().unwrap().into())?;
            Ok("connected".into())
        }
        ["time", count, to] => {
            let mut times: Vec<u128> = (0..count.parse().unwrap())
                .map(|_| {
                    let start = std::time::Instant::now();
                    drop(TcpStream::connect(to));
                    start.elapsed().as_nanos()
                })
                .collect();
            times.sort_unstable();
            Ok(format!(
                "p50 {} ns, p99 {} ns",
                times[times.len() / 2],
                times[times.len() * 99 / 100]
            ))
        }
        ["many", count, first] => {
            let (count, first): (u32, u32) = (count.parse().unwrap(), first.parse().unwrap());
            for n in first..first + count {
                let to = SocketAddr::new(
                    IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n)),
                    1 + (n % 60_000) as u16,
                );
                let said = talk(TcpStream::connect(to)?)?;
                assert!(said.starts_with(&format!("{to} ")), "{to}: {said}");
            }
            Ok("all right".into())
        }
        ["way", way, to] => talk(ways::connect(way, to.parse().unwrap())?),
        ["reconnect", first, to] => {
            let stream = ways::reconnect(first.parse().unwrap(), to.parse().unwrap())?;
            Ok(format!(
                "{} {}",
                stream.peer_addr()?,
                stream.local_addr()?.ip()
            ))
        }
        ["unshared", to] => {
            unshare(CloneFlags::CLONE_NEWNET)?;
            talk(TcpStream::connect(to)?)
        }
        ["hold", ref to @ ..] => Ok(ways::hold(to)),
        // A line before the other side has to do something, and one after it did.
        ["wait", to] => {
            let mut stream = TcpStream::connect(to)?;
            println!("\nconnected {}", stream.local_addr()?);
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(format!("read {said:?}"))
        }
        ref other => panic!("{other:?}"),
    }
}

/// What HNP says about the destination, what the kernel says about the peer, and about this end.
fn talk(mut stream: TcpStream) -> io::Result<String> {
    let (peer, own) = (stream.peer_addr()?, stream.local_addr()?);
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(format!("{} {peer} {}", said.trim_end(), own.ip()))
}

pub(crate) fn told(error: &io::Error) -> String {
    let errno = nix::Error::from_raw(error.raw_os_error().unwrap_or(0));
    format!("{errno:?}")
}
