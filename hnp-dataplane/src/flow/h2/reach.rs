//! From a request to the upstream's response: over a connection that HTTP/2 shares, or one of HTTP/1.1 from the pool.

use std::rc::Rc;
use std::sync::Arc;

use h2::Reason;
use http::request;
use http::uri::Scheme;

use super::session::{Current, Served, Session};
use super::unless_gone;
use crate::access_log::ClosedBy;
use crate::admin::metrics;
use crate::config::model::HttpProtocol;
use crate::flow::account::Account;
use crate::flow::{authorize, connect, reverse};
use crate::http::answer::Answer;
use crate::http::forward::Upstream;
use crate::http::h2::content::Content;
use crate::http::h2::exchange::{self, Failure, Idle, Progress, Refused, upstream_failed};
use crate::http::h2::message::{Asking, Broken, Source};
use crate::http::h2::stream::{self, Client, Received};
use crate::http::h2::upstream::{Found, Lease};
use crate::http::h2::{plain, translate};
use crate::http::head::{BodyFraming, RequestParser};
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::reverse::Rewriter;
use crate::http::rewrite;
use crate::origin::Origin;
use crate::tls::Alpn;
use crate::worker::{Snapshot, Worker};

/// Connections that a request is tried on, where an upstream says that it has not looked at it.
const ATTEMPTS: usize = 3;
/// A request that went through HNP this often goes in circles.
const LOOP_LIMIT: usize = 8;

/// A way to the upstream.
enum Via {
    Http2(Lease),
    Http1 {
        upstream: Upstream,
        /// An earlier request has used it, and it may have ended since.
        reused: bool,
    },
}

/// A request as the upstream gets it.
pub(in crate::flow) struct Plan {
    /// Its head, as HTTP/1.1 has it.
    pub(in crate::flow) head: Vec<u8>,
    /// How its response is read: as that to `HEAD`, or to any other.
    pub(in crate::flow) method: String,
    pub(in crate::flow) framing: BodyFraming,
    /// Whether doing it twice is as good as doing it once (RFC 9110 section 9.2.2).
    pub(in crate::flow) is_idempotent: bool,
}

/// One exchange with an origin, whichever version of HTTP the client speaks.
pub(in crate::flow) struct Exchange<'a> {
    pub(in crate::flow) worker: &'a Rc<Worker>,
    pub(in crate::flow) snapshot: &'a Snapshot,
    pub(in crate::flow) origin: &'a Arc<Origin>,
    pub(in crate::flow) rewriter: &'a Rewriter,
    pub(in crate::flow) account: &'a Account,
    pub(in crate::flow) progress: &'a Progress<'a>,
    pub(in crate::flow) idle: Idle,
    pub(in crate::flow) plan: Plan,
}

impl Current {
    /// One request and its response.
    pub(super) async fn exchange(
        &self,
        session: &Session,
        head: &request::Parts,
        mut content: Content<Received>,
        client: &mut Client,
        account: &Account,
        progress: &Progress<'_>,
    ) -> Result<(ClosedBy, &'static str), Refused> {
        let path = head.uri.path();
        let served = match self.served() {
            Ok(served) => served,
            Err(answer) => {
                account.asked("reverse-proxy", head.method.as_str(), None, Some(path));
                return Err(answer.into());
            }
        };
        let target = &served.origin().target;
        account.asked(served.mode, head.method.as_str(), Some(target), Some(path));
        account.calls_itself(|| Some(head.headers.get(http::header::USER_AGENT)?.as_bytes()));
        authorize::origin(self.snapshot(), account, served.origin())
            .map_err(|answer| answer.about(target))?;
        let plan = self.plan(served, head, content.source().is_empty())?;
        let exchange = Exchange {
            worker: &session.worker,
            snapshot: self.snapshot(),
            origin: served.origin(),
            rewriter: served.rewriter(),
            account,
            progress,
            idle: Idle::of_stream(&self.snapshot().config.timeouts),
            plan,
        };
        exchange.carry(&mut content, client).await?;
        Ok((ClosedBy::Upstream, "complete"))
    }

    /// Judges the head, and writes it as the upstream gets it.
    fn plan(&self, served: &Served, head: &request::Parts, ended: bool) -> Result<Plan, Answer> {
        let written = translate::request_to_http1(head, ended)?;
        let parsed = RequestParser::new().parse(&written, &self.snapshot().head)?;
        let Some((request, _)) = parsed else {
            let why = "the request's head does not end where it should";
            let error = ErrorType::HttpRequestError;
            return Err(Answer::new(400, error, Side::Client, why));
        };
        let mut out = Vec::with_capacity(written.len() + 256);
        served.rewriter().request_head(&request, &mut out)?;
        translate::name_version(&mut out);
        if rewrite::times_through_hnp(&request) >= LOOP_LIMIT {
            let why = "the request went through HNP 8 times already: the upstream leads back here";
            let error = ErrorType::ProxyLoopDetected;
            return Err(Answer::new(502, error, Side::Configuration, why));
        }
        Ok(Plan {
            head: out,
            method: request.method.to_owned(),
            framing: request.framing,
            is_idempotent: matches!(
                request.method,
                "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
            ),
        })
    }
}

impl Exchange<'_> {
    /// Tries connections until one takes the request.
    pub(in crate::flow) async fn carry(
        &self,
        content: &mut Content<impl Source>,
        client: &mut impl Asking,
    ) -> Result<(), Refused> {
        let mut fresh = false;
        for attempt in 1.. {
            let via =
                unless_gone(self.reach(fresh), client)
                    .await
                    .map_err(|refused| match refused {
                        Refused::Answer(answer) => {
                            Refused::Answer(answer.about(&self.origin.target))
                        }
                        refused => refused,
                    })?;
            let tried = match via {
                Via::Http2(lease) => self.over_http2(&lease, content, client).await,
                Via::Http1 { upstream, reused } => {
                    fresh = true;
                    self.over_http1(upstream, reused, content, client).await
                }
            };
            match tried {
                Err(Refused::Failure(Failure::Upstream(Broken::Unprocessed(_))))
                    if attempt < ATTEMPTS && !self.progress.responded() && content.rewind() => {}
                tried => return tried,
            }
        }
        unreachable!("the loop has no end but its returns")
    }

    /// A connection for one request: shared where HTTP/2 is spoken, else its own. `fresh`: one that nobody has used yet.
    async fn reach(&self, fresh: bool) -> Result<Via, Answer> {
        let origin = self.origin;
        let prior_knowledge = origin.protocol == HttpProtocol::H2;
        let negotiates = origin.tls.is_some() && origin.protocol == HttpProtocol::Auto;
        if !prior_knowledge && !negotiates {
            return self.reach_http1(fresh).await;
        }
        let dialling = match self.worker.h2_upstreams.find(origin.id()).await? {
            Found::Connection(lease) => {
                self.account.reached(lease.address());
                return Ok(Via::Http2(lease));
            }
            Found::Http1 => return self.reach_http1(fresh).await,
            Found::Dial(dialling) => dialling,
        };
        let offer = if prior_knowledge { Alpn::H2 } else { Alpn::Any };
        let stream = match self.connect(offer).await {
            Ok(stream) => stream,
            Err(answer) => {
                dialling.failed(&answer);
                return Err(answer);
            }
        };
        let chosen = stream.session().and_then(|session| session.alpn.as_deref());
        if chosen != Some(b"h2") && !prior_knowledge {
            dialling.speaks_http1();
            return Ok(Via::Http1 {
                upstream: Upstream::new(stream),
                reused: false,
            });
        }
        let idle = self.snapshot.config.timeouts.upstream_idle.0;
        let origin = Arc::downgrade(origin);
        dialling
            .begin(
                stream,
                self.account.address(),
                self.snapshot.head,
                idle,
                move || origin.strong_count() > 0,
            )
            .await
            .map(Via::Http2)
            .map_err(|broken| upstream_failed(&broken))
    }

    async fn reach_http1(&self, fresh: bool) -> Result<Via, Answer> {
        let pool = &self.worker.upstreams;
        while !fresh && let Some(mut upstream) = pool.take(self.origin) {
            // What cannot be sent twice is not sent on a guess.
            if upstream.is_usable(!self.plan.is_idempotent) {
                return Ok(Via::Http1 {
                    upstream,
                    reused: true,
                });
            }
            upstream.close();
        }
        Ok(Via::Http1 {
            upstream: Upstream::new(self.connect(Alpn::Http1).await?),
            reused: false,
        })
    }

    async fn connect(&self, offer: Alpn) -> Result<crate::stream::Stream, Answer> {
        connect::origin(self.worker, self.snapshot, self.account, self.origin, offer).await
    }

    async fn over_http2(
        &self,
        lease: &Lease,
        content: &mut Content<impl Source>,
        client: &mut impl Asking,
    ) -> Result<(), Refused> {
        let scheme = match self.origin.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        let head = translate::request_to_http2(self.plan.head.clone(), scheme)?;
        // What the stream says of its end is of no use here: some of the content may have been taken for an earlier attempt.
        let ended = self.plan.framing == BodyFraming::None;
        let (response, stream) = lease.send(head, ended).await.map_err(Refused::upstream)?;
        let metrics = &self.worker.metrics;
        let _open = metrics.http2_stream(metrics::Side::Upstream);
        let mut upstream = stream::Upstream::new(response, self.rewriter);
        let mut request = stream::Request::new(stream);
        let carried = exchange::run(
            (!ended).then_some((content, &mut request)),
            &mut upstream,
            client,
            self.progress,
            self.idle,
        )
        .await;
        match &carried {
            Ok(()) if self.progress.sent.get() => {}
            // What is left of the request is not wanted any more.
            Ok(()) => request.reset(Reason::NO_ERROR),
            Err(Failure::Client(Broken::Reset(reason))) => request.reset(*reason),
            Err(Failure::Client(_)) => request.reset(Reason::CANCEL),
            Err(Failure::Upstream(Broken::Unprocessed("GOAWAY") | Broken::Gone(_))) => {
                lease.retire();
            }
            Err(Failure::Upstream(_)) => request.reset(Reason::CANCEL),
            Err(Failure::Idle(_)) => {
                // The connection may be dead without anybody having said so.
                request.reset(Reason::CANCEL);
                lease.retire();
            }
        }
        match carried {
            // It died under the request, which may be sent again where that does nothing twice.
            Err(Failure::Upstream(Broken::Gone(_)))
                if lease.is_reused() && self.plan.is_idempotent =>
            {
                Err(Refused::upstream(Broken::Unprocessed(
                    "the connection broke",
                )))
            }
            carried => carried.map_err(Refused::Failure),
        }
    }

    async fn over_http1(
        &self,
        connection: Upstream,
        reused: bool,
        content: &mut Content<impl Source>,
        client: &mut impl Asking,
    ) -> Result<(), Refused> {
        let _in_use = self.worker.metrics.upstream_request(match reused {
            true => metrics::Connection::Kept,
            false => metrics::Connection::New,
        });
        let stream = connection.stream();
        let limits = self.snapshot.head;
        let mut upstream = plain::Upstream::new(stream, &self.plan.method, limits, self.rewriter);
        let mut request = plain::Request::new(stream, self.plan.framing);
        let carried = match stream.write_all(&self.plan.head).await {
            Ok(()) => {
                let with_content = self.plan.framing != BodyFraming::None;
                exchange::run(
                    with_content.then_some((content, &mut request)),
                    &mut upstream,
                    client,
                    self.progress,
                    self.idle,
                )
                .await
            }
            Err(error) => Err(Failure::Upstream(Broken::Gone(error.to_string()))),
        };
        let whole = carried.is_ok() && self.progress.sent.get();
        if whole && upstream.is_reusable() {
            reverse::keep(self.worker, self.origin, connection);
            return Ok(());
        }
        match carried {
            Err(Failure::Upstream(Broken::Gone(_)))
                if reused && self.plan.is_idempotent && upstream.was_silent() =>
            {
                // The kept connection died under the request; nobody has seen any of a response.
                Err(Refused::upstream(Broken::Unprocessed(
                    "the kept connection had ended",
                )))
            }
            carried => {
                if whole {
                    connection.close();
                } else {
                    // What it has of the request must not be taken for the whole.
                    stream.reset_on_close();
                }
                carried.map_err(Refused::Failure)
            }
        }
    }
}
