//! One request and its response, both ways at once.

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use http::{HeaderMap, Response};

use super::message::{Answering, Asking, Broken, Part, Sink, Source};
use crate::config::model::Timeouts;
use crate::http::answer::Answer;
use crate::http::proxy_status::{ErrorType, Side};
use crate::relay::Ledger;
use crate::uring;

/// Interim responses that one request may get.
const INTERIM_LIMIT: usize = 32;

/// What both directions know of an exchange.
pub(crate) struct Progress<'a> {
    ledger: &'a dyn Ledger,
    active: Cell<Instant>,
    awaits_client: Cell<bool>,
    /// The status that the client got, 0 while none.
    pub(crate) status: Cell<u16>,
    /// Whether the request has been sent whole.
    pub(crate) sent: Cell<bool>,
}

/// How long nothing may move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    /// So long.
    pub(crate) limit: Duration,
    /// The setting that says so.
    pub(crate) setting: &'static str,
}

impl Idle {
    /// For a stream of HTTP/2: it may be as silent as a tunnel, for a call of gRPC is open for as long as there may be something to say.
    pub(crate) fn of_stream(timeouts: &Timeouts) -> Idle {
        Idle {
            limit: timeouts.tunnel_idle.0,
            setting: "timeouts.tunnel-idle",
        }
    }

    /// For a request of HTTP/1.1.
    pub(crate) fn of_request(timeouts: &Timeouts) -> Idle {
        Idle {
            limit: timeouts.http_idle.0,
            setting: "timeouts.http-idle",
        }
    }
}

/// Why an exchange is not complete.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is nobody to tell.
    Client(Broken),
    /// The upstream's fault.
    Upstream(Broken),
    /// No byte moved for too long.
    Idle(Answer),
}

/// Why a request has no response of the upstream's.
#[derive(Debug)]
pub(crate) enum Refused {
    /// HNP says why.
    Answer(Answer),
    /// The exchange broke.
    Failure(Failure),
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Refused {
        Refused::Answer(answer)
    }
}

impl Refused {
    /// The upstream is why.
    pub(crate) fn upstream(broken: Broken) -> Refused {
        Refused::Failure(Failure::Upstream(broken))
    }
}

/// What a client is told of an upstream that broke.
pub(crate) fn upstream_failed(broken: &Broken) -> Answer {
    let error = match broken {
        Broken::Reset(_) | Broken::Gone(_) | Broken::Unprocessed(_) => {
            ErrorType::ConnectionTerminated
        }
        Broken::Malformed(error, _) => *error,
    };
    Answer::new(502, error, Side::Upstream, format!("the upstream {broken}"))
}

impl Progress<'_> {
    /// Bytes are entered in `ledger` as they pass.
    pub(crate) fn new(ledger: &dyn Ledger) -> Progress<'_> {
        Progress {
            ledger,
            active: Cell::new(uring::now()),
            awaits_client: Cell::new(false),
            status: Cell::new(0),
            sent: Cell::new(false),
        }
    }

    /// Whether a head has gone to the client.
    pub(crate) fn responded(&self) -> bool {
        self.status.get() != 0
    }

    fn touch(&self) {
        self.active.set(uring::now());
    }

    /// Ends when nothing has moved for `limit`.
    async fn silence(&self, idle: Idle) -> Answer {
        let Idle { limit, setting } = idle;
        loop {
            let deadline = self.active.get() + limit;
            if deadline <= uring::now() {
                break;
            }
            uring::sleep_until(deadline).await;
        }
        if self.awaits_client.get() {
            let why =
                format!("nothing more of the request's content came within {limit:?} ({setting})");
            Answer::new(408, ErrorType::HttpRequestError, Side::Client, why)
        } else {
            let why = format!("the upstream took or sent nothing for {limit:?} ({setting})");
            Answer::new(504, ErrorType::HttpResponseTimeout, Side::Upstream, why)
        }
    }
}

/// Carries `content` up and the response down until the response is complete. A head has been sent to the upstream before.
///
/// Without content (`None`) the request is complete already.
pub(crate) async fn run(
    content: Option<(&mut impl Source, &mut impl Sink)>,
    upstream: &mut impl Answering,
    client: &mut impl Asking,
    progress: &Progress<'_>,
    idle: Idle,
) -> Result<(), Failure> {
    progress.sent.set(content.is_none());
    let mut up = pin!(async {
        match content {
            Some((content, request)) => send(content, request, progress).await,
            None => Ok(()),
        }
    });
    let mut down = pin!(respond(upstream, client, progress));
    let mut silence = pin!(progress.silence(idle));
    let mut sending = true;
    loop {
        tokio::select! {
            biased;
            // Once the response is complete nobody wants the rest of the request (RFC 9113 section 8.1).
            done = &mut down => return done,
            sent = &mut up, if sending => {
                sending = false;
                match sent {
                    Ok(()) => {}
                    // The response says why, or breaks as well.
                    Err(Failure::Upstream(_)) => {}
                    Err(failure) => return Err(failure),
                }
            }
            answer = &mut silence => return Err(Failure::Idle(answer)),
        }
    }
}

/// Who ended a tunnel first.
pub(crate) enum Ended {
    Client,
    Upstream,
    /// HNP, at the end of its longest life.
    Expired,
}

/// Carries a tunnel until both sides have ended, for `lifetime` at most.
pub(crate) async fn both(
    content: &mut impl Source,
    request: &mut impl Sink,
    upstream: &mut impl Answering,
    client: &mut impl Asking,
    progress: &Progress<'_>,
    idle: Idle,
    lifetime: Option<Duration>,
) -> Result<Ended, Failure> {
    let mut up = pin!(send(content, request, progress));
    let mut down = pin!(respond(upstream, client, progress));
    let mut silence = pin!(progress.silence(idle));
    let until = lifetime.map(|lifetime| uring::now() + lifetime);
    let mut life = pin!(async {
        match until {
            Some(until) => uring::sleep_until(until).await,
            None => std::future::pending().await,
        }
    });
    let (mut sending, mut receiving) = (true, true);
    let mut first = None;
    while sending || receiving {
        tokio::select! {
            biased;
            done = &mut down, if receiving => {
                done?;
                receiving = false;
                first.get_or_insert(Ended::Upstream);
            }
            done = &mut up, if sending => {
                done?;
                sending = false;
                first.get_or_insert(Ended::Client);
            }
            answer = &mut silence => return Err(Failure::Idle(answer)),
            () = &mut life => return Ok(Ended::Expired),
        }
    }
    Ok(first.unwrap_or(Ended::Client))
}

async fn send(
    content: &mut impl Source,
    request: &mut impl Sink,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    loop {
        progress.awaits_client.set(true);
        let part = tokio::select! {
            biased;
            part = content.next() => part.map_err(Failure::Client)?,
            broken = request.broken() => return Err(Failure::Upstream(broken)),
        };
        progress.awaits_client.set(false);
        progress.touch();
        if progress.responded() {
            content.settle();
        }
        let over = match part {
            Part::Data { data, last } => {
                let bytes = data.len();
                request.data(data, last).await.map_err(Failure::Upstream)?;
                content.taken(bytes);
                progress.ledger.sent_up(bytes);
                last
            }
            Part::Trailers(trailers) => {
                progress.ledger.sent_up(size(&trailers));
                let sent = request.trailers(trailers).await;
                sent.map_err(Failure::Upstream)?;
                true
            }
            Part::End => {
                request.end().await.map_err(Failure::Upstream)?;
                true
            }
        };
        progress.touch();
        if over {
            progress.sent.set(true);
            return Ok(());
        }
    }
}

async fn respond(
    upstream: &mut impl Answering,
    client: &mut impl Asking,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    let mut interim = 0;
    loop {
        let (head, end) = tokio::select! {
            biased;
            head = upstream.head() => head.map_err(Failure::Upstream)?,
            broken = client.broken() => return Err(Failure::Client(broken)),
        };
        progress.touch();
        if head.status().is_informational() {
            interim += 1;
            if interim > INTERIM_LIMIT {
                return Err(Failure::Upstream(Broken::Malformed(
                    ErrorType::HttpProtocolError,
                    "it sends one interim response after the other".to_owned(),
                )));
            }
            client.interim(head).await.map_err(Failure::Client)?;
            continue;
        }
        let status = head.status().as_u16();
        let bytes = size(head.headers());
        client.head(head, end).await.map_err(Failure::Client)?;
        progress.status.set(status);
        progress.ledger.sent_down(bytes);
        if end {
            return Ok(());
        }
        break;
    }
    loop {
        let part = tokio::select! {
            biased;
            part = upstream.next() => part.map_err(Failure::Upstream)?,
            broken = client.broken() => return Err(Failure::Client(broken)),
        };
        progress.touch();
        let over = match part {
            Part::Data { data, last } => {
                let bytes = data.len();
                client.data(data, last).await.map_err(Failure::Client)?;
                upstream.taken(bytes);
                progress.ledger.sent_down(bytes);
                last
            }
            Part::Trailers(trailers) => {
                progress.ledger.sent_down(size(&trailers));
                client.trailers(trailers).await.map_err(Failure::Client)?;
                true
            }
            Part::End => {
                client.end().await.map_err(Failure::Client)?;
                true
            }
        };
        progress.touch();
        if over {
            return Ok(());
        }
    }
}

/// Sends a response of HNP's own.
pub(crate) async fn answer(
    client: &mut impl Asking,
    head: Response<()>,
    body: bytes::Bytes,
    progress: &Progress<'_>,
) -> Result<(), Broken> {
    let status = head.status().as_u16();
    let bytes = size(head.headers()) + body.len();
    client.head(head, body.is_empty()).await?;
    progress.status.set(status);
    if !body.is_empty() {
        client.data(body, true).await?;
    }
    progress.ledger.sent_down(bytes);
    Ok(())
}

/// Bytes of a header section, as names and values: what HPACK makes of them is nobody's measure.
pub(crate) fn size(fields: &HeaderMap) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}
