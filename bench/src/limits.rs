//! What the machine is able to, measured in memory on one thread: sealing and opening TLS records, and handshakes, without sockets
//! and without a proxy. Figures of the benchmarks are to be read beside these.

use std::fmt;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hnp_dataplane::tls::memory::{self, Line};
use nix::time::{ClockId, clock_gettime};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
};
use serde::Serialize;

/// Plaintext of a record, and how many are sealed in one go.
const RECORD: usize = 16 << 10;
const BURST: usize = 4 * RECORD;
/// Bytes of a record's tag.
const TAG: usize = 16;

/// Everything that was measured: medians.
#[derive(Debug, Clone, Serialize)]
pub struct Limits {
    /// CPU seconds to seal a GiB in records of 16 KiB and to open it again, TLS_AES_128_GCM_SHA256.
    pub records: Records,
    /// CPU microseconds of the server's side of a TLS 1.3 handshake with P-256 certificates on both sides, X25519.
    pub full: Handshake,
    /// The same, resumed by a ticket.
    pub resumed: Handshake,
}

/// CPU seconds a GiB, sealed and opened.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Records {
    /// To seal by AES-128-GCM alone, from buffer to buffer.
    pub seal: f64,
    /// To open, likewise.
    pub open: f64,
    /// HNP's records, by way of a line in memory that copies as sockets do.
    pub ours: f64,
    /// rustls' unbuffered records, by way of the same.
    pub rustls: f64,
    /// That line alone: in both figures above, once for each direction.
    pub line: f64,
}

/// CPU microseconds of either side.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Handshake {
    /// The server's side.
    pub server: f64,
    /// The client's side.
    pub client: f64,
}

impl Limits {
    /// Measures everything `rounds` times, interleaved; each measurement takes `time`.
    ///
    /// # Errors
    /// The cryptography does not work here.
    pub fn measure(rounds: usize, time: Duration) -> anyhow::Result<Limits> {
        let setting = Setting::make()?;
        let mut found: [Vec<f64>; 9] = Default::default();
        for _ in 0..rounds.max(1) {
            let full = setting.handshakes(time, HandshakeKind::Full)?;
            let resumed = setting.handshakes(time, HandshakeKind::Resumed)?;
            let round = [
                seal(time)?,
                open(time)?,
                setting.ours(time)?,
                setting.rustls(time)?,
                line(time)?,
                full.server,
                full.client,
                resumed.server,
                resumed.client,
            ];
            for (all, one) in found.iter_mut().zip(round) {
                all.push(one);
            }
        }
        let [seal, open, ours, rustls, line, a, b, c, d] = found.map(median);
        Ok(Limits {
            records: Records {
                seal,
                open,
                ours,
                rustls,
                line,
            },
            full: Handshake {
                server: a,
                client: b,
            },
            resumed: Handshake {
                server: c,
                client: d,
            },
        })
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Records {
            seal,
            open,
            ours,
            rustls,
            line,
        } = self.records;
        writeln!(
            f,
            "records of 16 KiB, sealed and opened, CPU s/GiB (TLS_AES_128_GCM_SHA256):"
        )?;
        writeln!(
            f,
            "  AES-128-GCM alone {:.3} (seals in {seal:.3}, opens in {open:.3})",
            seal + open
        )?;
        writeln!(
            f,
            "  HNP's records     {ours:.3}, of which {line:.3} are copies as a socket makes them"
        )?;
        writeln!(f, "  rustls' records   {rustls:.3}, likewise")?;
        for (what, one) in [("full", self.full), ("resumed", self.resumed)] {
            writeln!(
                f,
                "handshakes of rustls in memory, mutual P-256, {what}: server {:.0} us ({:.0}/s), client {:.0} us",
                one.server,
                1e6 / one.server,
                one.client
            )?;
        }
        Ok(())
    }
}

/// Configurations of both sides.
struct Setting {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Setting {
    fn make() -> anyhow::Result<Setting> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name
            .push(DnType::CommonName, "HNP benchmark CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(ca.self_signed(&ca_key)?.der().clone())?;
        let roots = Arc::new(roots);
        let issuer = Issuer::new(ca, ca_key);
        let leaf =
            |name: &str| -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
                let key = KeyPair::generate()?;
                let params = CertificateParams::new(vec![name.to_owned()])?;
                let certificate = params.signed_by(&key, &issuer)?.der().clone();
                let key =
                    PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
                Ok((vec![certificate], key))
            };
        let crypto = Arc::new(CryptoProvider {
            cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![provider::kx_group::X25519],
            ..provider::default_provider()
        });
        let versions = [&rustls::version::TLS13];
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&crypto));
        let (chain, key) = leaf("manager.test")?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(chain, key)?;
        server.enable_secret_extraction = true;
        server.ticketer = provider::Ticketer::new()?;
        let (chain, key) = leaf("agent.test")?;
        let mut client = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&versions)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        client.enable_secret_extraction = true;
        Ok(Setting {
            server: Arc::new(server),
            client: Arc::new(client),
            name: ServerName::try_from("manager.test")?,
        })
    }

    fn ours(&self, time: Duration) -> anyhow::Result<f64> {
        let (client, server) = memory::pair(
            Arc::clone(&self.client),
            Arc::clone(&self.server),
            self.name.clone(),
        )?;
        let data = vec![7; BURST];
        let mut buffer = vec![0; BURST + 64];
        per_gib(time, || {
            let sent = client.try_write(black_box(&data))?;
            let mut got = 0;
            while got < sent {
                got += server.try_read(&mut buffer)?;
            }
            black_box(&buffer);
            Ok(sent)
        })
    }

    fn rustls(&self, time: Duration) -> anyhow::Result<f64> {
        let (mut client, mut server) = self.unbuffered()?;
        let line = Line::default();
        let data = vec![7; BURST];
        let mut outgoing = vec![0; BURST + 1024];
        let mut incoming = vec![0; BURST + 1024];
        let mut buffer = vec![0; BURST];
        per_gib(time, || {
            let UnbufferedStatus { state, .. } = client.process_tls_records(&mut []);
            let ConnectionState::WriteTraffic(mut writer) = state? else {
                bail!("rustls does not write");
            };
            let sealed = writer.encrypt(black_box(&data), &mut outgoing)?;
            line.send(&outgoing[..sealed])?;
            let received = line.recv(&mut incoming)?;
            let (mut from, mut got) = (0, 0);
            while got < BURST {
                let UnbufferedStatus { discard, state } =
                    server.process_tls_records(&mut incoming[from..received]);
                let ConnectionState::ReadTraffic(mut reader) = state? else {
                    bail!("rustls does not read");
                };
                while let Some(record) = reader.next_record() {
                    let plain = record?.payload;
                    buffer[got..got + plain.len()].copy_from_slice(plain);
                    got += plain.len();
                }
                from += discard;
            }
            black_box(&buffer);
            Ok(got)
        })
    }

    /// Both sides after their handshake.
    fn unbuffered(
        &self,
    ) -> anyhow::Result<(UnbufferedClientConnection, UnbufferedServerConnection)> {
        let mut client =
            UnbufferedClientConnection::new(Arc::clone(&self.client), self.name.clone())?;
        let mut server = UnbufferedServerConnection::new(Arc::clone(&self.server))?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        macro_rules! run {
            ($connection:ident, $incoming:ident, $outgoing:ident) => {
                loop {
                    let UnbufferedStatus { discard, state } =
                        $connection.process_tls_records(&mut $incoming);
                    let mut waits = false;
                    match state? {
                        ConnectionState::EncodeTlsData(mut data) => {
                            let at = $outgoing.len();
                            $outgoing.resize(at + RECORD, 0);
                            let n = data.encode(&mut $outgoing[at..])?;
                            $outgoing.truncate(at + n);
                        }
                        ConnectionState::TransmitTlsData(data) => data.done(),
                        _ => waits = true,
                    }
                    $incoming.drain(..discard);
                    if waits {
                        break;
                    }
                }
            };
        }
        for _ in 0..4 {
            run!(client, down, up);
            run!(server, up, down);
        }
        Ok((client, server))
    }

    /// What a handshake costs either side.
    fn handshakes(&self, time: Duration, kind: HandshakeKind) -> anyhow::Result<Handshake> {
        let mut client_config = ClientConfig::clone(&self.client);
        if kind == HandshakeKind::Full {
            client_config.resumption = rustls::client::Resumption::disabled();
        } else {
            client_config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        }
        let client_config = Arc::new(client_config);
        let until = Instant::now() + time;
        let (mut of_server, mut of_client) = (Duration::ZERO, Duration::ZERO);
        let mut count = 0;
        let mut warm = false;
        while Instant::now() < until || count == 0 {
            let mut client = ClientConnection::new(Arc::clone(&client_config), self.name.clone())?;
            let mut server = ServerConnection::new(Arc::clone(&self.server))?;
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let begun = cpu()?;
            let mut for_server = Duration::ZERO;
            while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
                while client.wants_write() {
                    client.write_tls(&mut up)?;
                }
                let from = cpu()?;
                if !up.is_empty() {
                    server.read_tls(&mut &up[..])?;
                    server.process_new_packets()?;
                    up.clear();
                }
                while server.wants_write() {
                    server.write_tls(&mut down)?;
                }
                for_server += cpu()? - from;
                if !down.is_empty() {
                    client.read_tls(&mut &down[..])?;
                    client.process_new_packets()?;
                    down.clear();
                }
            }
            // The tickets.
            while server.wants_write() {
                server.write_tls(&mut down)?;
            }
            client.read_tls(&mut &down[..])?;
            client.process_new_packets()?;
            let all = cpu()? - begun;
            if warm {
                let was = server.handshake_kind().context("no handshake")?;
                anyhow::ensure!(was == kind, "a handshake was {was:?}");
                count += 1;
                of_server += for_server;
                of_client += all - for_server;
            }
            warm = true;
        }
        let micros = |total: Duration| total.as_secs_f64() * 1e6 / f64::from(count);
        Ok(Handshake {
            server: micros(of_server),
            client: micros(of_client),
        })
    }
}

/// The cipher alone, sealing.
fn seal(time: Duration) -> anyhow::Result<f64> {
    let key = key()?;
    let data = vec![7; RECORD];
    let mut sealed = vec![0; RECORD];
    let mut sequence = 0;
    per_gib(time, || {
        let mut tag = [0; TAG];
        key.seal_out_of_place_scatter(
            nonce(sequence),
            Aad::from([5; 5]),
            black_box(&data),
            &mut sealed,
            &[],
            &mut tag,
        )
        .ok()
        .context("sealing failed")?;
        black_box((&sealed, tag));
        sequence += 1;
        Ok(RECORD)
    })
}

/// The cipher alone, opening.
fn open(time: Duration) -> anyhow::Result<f64> {
    let key = key()?;
    let (mut sealed, mut tag) = (vec![0; RECORD], [0; TAG]);
    let aad = || Aad::from([5; 5]);
    key.seal_out_of_place_scatter(nonce(1), aad(), &[7; RECORD], &mut sealed, &[], &mut tag)
        .ok()
        .context("sealing failed")?;
    let mut opened = vec![0; RECORD];
    per_gib(time, || {
        let sealed = black_box(&sealed);
        key.open_separate_gather(nonce(1), aad(), sealed, &tag, &mut opened)
            .ok()
            .context("opening failed")?;
        black_box(&opened);
        Ok(RECORD)
    })
}

fn key() -> anyhow::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_128_GCM, &[3; 16]).ok();
    Ok(LessSafeKey::new(key.context("no AES-128-GCM")?))
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What the line costs by itself.
fn line(time: Duration) -> anyhow::Result<f64> {
    let line = Rc::new(Line::default());
    let data = vec![7; BURST];
    let mut buffer = vec![0; BURST];
    per_gib(time, || {
        line.send(black_box(&data))?;
        let got = line.recv(&mut buffer)?;
        black_box(&buffer);
        Ok(got)
    })
}

/// Repeats `burst`, which says how many bytes it moved; returns CPU seconds a GiB.
fn per_gib(
    time: Duration,
    mut burst: impl FnMut() -> anyhow::Result<usize>,
) -> anyhow::Result<f64> {
    for _ in 0..16 {
        burst()?;
    }
    let until = Instant::now() + time;
    let begun = cpu()?;
    let mut bytes = 0;
    while Instant::now() < until || bytes == 0 {
        for _ in 0..64 {
            bytes += burst()?;
        }
    }
    let used = cpu()? - begun;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let gib = bytes as f64 / f64::from(1 << 30);
    Ok(used.as_secs_f64() / gib)
}

/// CPU time of this thread so far.
fn cpu() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_measured() {
        let limits = Limits::measure(1, Duration::from_millis(5)).unwrap();
        println!("{limits}");
        assert!(limits.records.seal > 0.0 && limits.records.open > 0.0);
        assert!(limits.resumed.server < limits.full.server);
        assert!(limits.to_string().contains("resumed"));
    }
}
