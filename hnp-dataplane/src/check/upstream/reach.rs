//! The steps of one way, on an event loop of its own.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::AlertDescription;

use super::Told;
use super::answer::{self, Answer, NoAnswer};
use super::words;
use crate::admin::metrics::Metrics;
use crate::check::report::{Group, Item};
use crate::config::model::HttpProtocol;
use crate::dial::{DialError, Dialer, Dialled};
use crate::origin::Origin;
use crate::policy::{Engine, Who};
use crate::stream::Stream;
use crate::target::Host;
use crate::tls::{Alpn, HandshakeError};
use crate::uring::{self, Mechanism};

/// For all steps together.
const LIMIT: Duration = Duration::from_secs(9);

/// One upstream, and what leads to it.
pub(super) struct Way {
    /// As messages name it.
    pub(super) part: String,
    pub(super) origin: Origin,
    /// Whether HNP has a certificate for it.
    pub(super) certificate: bool,
    pub(super) dialer: Arc<Dialer>,
    pub(super) engine: Arc<Engine>,
}

/// What a step is called, while it is under way.
type Step = Cell<&'static str>;

/// Goes as far as it gets.
pub(super) fn reach(way: Way) -> (Vec<Item>, Option<Told>) {
    let mut group = Group::new("upstream");
    let step = Cell::new("connection");
    let walked = uring::run(Mechanism::Epoll, async {
        let walk = Box::pin(way.walk(&mut group, &step));
        uring::timeout(LIMIT, walk).await
    });
    let told = match walked {
        Ok(Ok(told)) => told,
        Ok(Err(_)) => {
            let part = &way.part;
            group.fail(
                step.get(),
                format!("{part}: not done within {LIMIT:?}"),
                "check the network on the way, and what the upstream is busy with",
            );
            None
        }
        Err(error) => {
            let remedy = "raise the limit on descriptors (`ulimit -n`)";
            group.fail("connection", error.to_string(), remedy);
            None
        }
    };
    (group.items, told)
}

impl Way {
    async fn walk(&self, group: &mut Group, step: &Step) -> Option<Told> {
        let mut alpn = match self.origin.protocol {
            HttpProtocol::H2 => Alpn::H2,
            _ => Alpn::Http1,
        };
        loop {
            step.set("connection");
            let dialled = match self.dial().await {
                Ok(dialled) => dialled,
                Err(error) => {
                    words::not_dialled(group, &self.part, &error);
                    return None;
                }
            };
            step.set("tls");
            let connected = (dialled.resolve, dialled.connect, dialled.address);
            let via_parent = dialled.via_parent;
            let secured = self.secure(dialled.stream, alpn).await;
            if let (Alpn::Http1, Err(error)) = (alpn, &secured)
                && wants_another_protocol(error)
            {
                alpn = Alpn::H2;
                continue;
            }
            self.dialled(group, connected, via_parent);
            let stream = match secured {
                Ok(stream) => stream,
                Err(error) => {
                    words::no_handshake(group, &self.part, &error);
                    return None;
                }
            };
            step.set("answer");
            let answer = answer::ask(&stream, &self.origin, alpn).await;
            if let (Alpn::Http1, Err(NoAnswer::Closed | NoAnswer::Broken(_))) = (alpn, &answer)
                && let Some((stream, answer)) = self.by_h2().await
            {
                return self.judge(group, &stream, Ok(answer));
            }
            return self.judge(group, &stream, answer);
        }
    }

    /// For a server that speaks HTTP/2 alone, and closes a connection on which that was not agreed on: where it is spoken, an answer.
    async fn by_h2(&self) -> Option<(Stream, Answer)> {
        if self.origin.protocol != HttpProtocol::Auto {
            return None;
        }
        let dialled = self.dial().await.ok()?;
        let stream = self.secure(dialled.stream, Alpn::H2).await.ok()?;
        let agreed = stream.session()?.alpn.as_deref() == Some(b"h2");
        let answer = answer::ask(&stream, &self.origin, Alpn::H2).await.ok()?;
        agreed.then_some((stream, answer))
    }

    async fn dial(&self) -> Result<Dialled, DialError> {
        let target = &self.origin.target;
        let allowed = |address| {
            self.engine
                .check_origin_address(target, address, Who::default())
        };
        // Nobody reads these.
        let metrics = Metrics::new(1).worker(0);
        self.dialer.dial(&metrics, target, allowed).await
    }

    async fn secure(&self, stream: Stream, alpn: Alpn) -> Result<Stream, HandshakeError> {
        match &self.origin.tls {
            None => Ok(stream),
            Some(tls) => tls.connect(stream, alpn).await,
        }
    }

    fn dialled(
        &self,
        group: &mut Group,
        (resolve, connect, address): (Duration, Duration, std::net::SocketAddr),
        via_parent: bool,
    ) {
        let (part, target) = (&self.part, &self.origin.target);
        if via_parent {
            let detail = format!(
                "{part}: {address} has connected to {target} in {}",
                ms(connect)
            );
            group.ok("parent", detail);
            return;
        }
        if let Host::Name(name) = &target.host {
            let detail = format!("{part}: {name} is {} ({})", address.ip(), ms(resolve));
            group.ok("name", detail);
        }
        group.ok(
            "connection",
            format!("{part}: {address} in {}", ms(connect)),
        );
    }

    fn judge(
        &self,
        group: &mut Group,
        stream: &Stream,
        answer: Result<Answer, NoAnswer>,
    ) -> Option<Told> {
        let part = &self.part;
        if let Some(session) = stream.session() {
            let version = session.version_name();
            group.ok(
                "tls",
                format!("{part}: its certificate is verified, TLS {version}"),
            );
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                words::no_answer(group, part, stream.session().is_some(), &why);
                return None;
            }
        };
        if answer.about_certificate {
            words::certificate_in_answer(group, part, self.certificate);
            return None;
        }
        if self.certificate && stream.session().is_some() {
            group.ok("client-certificate", format!("{part}: ours is not refused"));
        }
        match answer.status {
            0 => group.ok("answer", format!("{part}: it answers HTTP/2")),
            status @ (502..=504) => group.warn(
                "answer",
                format!("{part}: it answers {status}: what stands in front of the manager does not reach it"),
                "find out whether the manager is up",
            ),
            status => group.ok("answer", format!("{part}: it answers {status}")),
        }
        let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(Told {
            part: part.clone(),
            time: answer.date?,
            here: i64::try_from(here).ok()?,
        })
    }
}

fn wants_another_protocol(error: &HandshakeError) -> bool {
    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    matches!(error, HandshakeError::Tls(error) if *error == alert)
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
