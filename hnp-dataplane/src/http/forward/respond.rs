//! The way back: heads judged and written anew, content passed on as it comes.

use std::cell::RefCell;
use std::io;

use super::Gate;
use super::buffer::Buffer;
use super::exchange::{Failure, Kept, Run, Shared};
use crate::http::answer::Answer;
use crate::http::body::{Body, BodyError, Piece};
use crate::http::head::BodyFraming;
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::response::{ResponseHead, ResponseParser};
use crate::stream::Stream;
use crate::tls::RecordError;
use crate::tls::verify::explain;

/// Interim responses that one request may get.
const INTERIM_LIMIT: usize = 32;

thread_local! {
    /// Where a head is written before it takes the place of the one that came. Never held across a wait.
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The way back.
pub(super) struct Response<'a, G: Gate> {
    pub(super) upstream: &'a Stream,
    pub(super) run: &'a Run<'a, G>,
    pub(super) shared: &'a Shared,
}

/// What the final head says of the rest.
struct Final {
    framing: BodyFraming,
    decode: bool,
    kept: Kept,
}

impl<G: Gate> Response<'_, G> {
    pub(super) async fn pass_on(&self, input: &mut Buffer) -> Result<Kept, Failure> {
        for _ in 0..INTERIM_LIMIT {
            if let Some(kept) = self.pass_on_one(input).await? {
                return Ok(kept);
            }
        }
        Err(self.upstream_fault(
            ErrorType::HttpProtocolError,
            "the upstream sends one interim response after the other",
        ))
    }

    /// Passes on one response: `None` for an interim one.
    async fn pass_on_one(&self, input: &mut Buffer) -> Result<Option<Kept>, Failure> {
        let mut parser = ResponseParser::new();
        loop {
            let limits = &self.run.options.limits;
            let parsed = parser.parse(input.bytes(), limits, self.run.plan.method());
            match parsed {
                Err(error) => {
                    return Err(self.upstream_fault(error.error_type(), &error.to_string()));
                }
                Ok(Some((head, length))) => {
                    let status = head.status;
                    let last = self.judge(&head)?;
                    let framed = self.run.plan.knows_http11();
                    return match last {
                        Some(last) => {
                            let rest = &input.bytes()[length..];
                            let mut body = Body::new(last.framing);
                            let there = match (last.kept.upgraded, last.decode) {
                                (false, false) => body.scan(rest).map_err(|e| self.broken(e))?.take,
                                _ => 0,
                            };
                            let close = !last.kept.client;
                            HEAD.with_borrow_mut(|out| {
                                out.clear();
                                self.run
                                    .gate
                                    .respond(self.run.hop, &head, close, framed, out);
                            });
                            let head = self.replace_head(input, length);
                            self.shared.responded.set(true);
                            self.shared.status.set(status);
                            self.to_client(input, head + there).await?;
                            if !last.kept.upgraded {
                                self.pass_on_content(input, body, last.decode).await?;
                            }
                            Ok(Some(last.kept))
                        }
                        None => {
                            if status == 100 {
                                self.shared.continued.set(true);
                            }
                            // A client of HTTP/1.0 would not understand it.
                            if framed {
                                HEAD.with_borrow_mut(|out| {
                                    out.clear();
                                    self.run.gate.respond(self.run.hop, &head, false, true, out);
                                });
                                let head = self.replace_head(input, length);
                                // Part of it may be on its way: nothing else can follow that.
                                self.shared.responded.set(true);
                                self.to_client(input, head).await?;
                                self.shared.responded.set(false);
                            } else {
                                input.consume(length);
                            }
                            Ok(None)
                        }
                    };
                }
                Ok(None) => {}
            }
            match input.fill(self.upstream).await {
                Ok(1..) => {
                    self.shared.heard.set(true);
                    self.shared.touch();
                }
                Ok(0) if input.is_empty() => return Err(self.silent("closed the connection")),
                Err(error) if input.is_empty() => return Err(self.cut(&error)),
                Ok(0) => {
                    let why =
                        "the upstream closed the connection in the midst of its response's head";
                    return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, why));
                }
                Err(error) => {
                    let why = format!(
                        "the connection to the upstream broke in the midst of its response's head: {error}"
                    );
                    return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, &why));
                }
            }
        }
    }

    /// Puts the head that was written in the place of the first `length` bytes. Gives its length.
    fn replace_head(&self, input: &mut Buffer, length: usize) -> usize {
        input.consume(length);
        HEAD.with_borrow(|head| {
            input.put_before(head);
            head.len()
        })
    }

    /// What follows the head: nothing that concerns this exchange, for an interim one.
    fn judge(&self, head: &ResponseHead<'_>) -> Result<Option<Final>, Failure> {
        if head.is_interim() {
            return Ok(None);
        }
        let plan = self.run.plan;
        let upgraded = head.status == 101;
        if upgraded && !plan.upgrades {
            let why = "the upstream switches protocols (101) though nobody asked it to";
            return Err(self.upstream_fault(ErrorType::HttpUpgradeFailed, why));
        }
        let decode = head.framing == BodyFraming::Chunked && !plan.knows_http11();
        let no_end = head.framing == BodyFraming::UntilClose || decode;
        // A client that was to wait for 100 and got a refusal instead may or may not send its content: no telling which.
        let in_doubt =
            plan.expects_continue && !self.shared.continued.get() && self.shared.up.get() == 0;
        let deaf = self.shared.upstream_deaf.get();
        let client =
            upgraded || (plan.keeps_alive && self.run.may_keep && !no_end && !in_doubt && !deaf);
        Ok(Some(Final {
            framing: head.framing,
            decode,
            kept: Kept {
                client,
                upstream: head.keeps_alive() && !in_doubt && !deaf,
                upgraded,
            },
        }))
    }

    async fn pass_on_content(
        &self,
        input: &mut Buffer,
        mut body: Body,
        decode: bool,
    ) -> Result<(), Failure> {
        while !body.is_done() {
            if input.is_empty() {
                match input.fill(self.upstream).await {
                    Ok(1..) => self.shared.touch(),
                    Ok(0) => {
                        return body.connection_ended().map_err(|error| {
                            self.upstream_fault(
                                ErrorType::HttpResponseIncomplete,
                                &format!("the upstream's response: {error}"),
                            )
                        });
                    }
                    Err(error) => {
                        let why = format!(
                            "the connection to the upstream broke in the midst of its response: {error}"
                        );
                        return Err(self.upstream_fault(ErrorType::HttpResponseIncomplete, &why));
                    }
                }
            }
            let bytes = input.bytes();
            if decode {
                let Piece { skip, data } = body.next(bytes).map_err(|e| self.broken(e))?;
                input.consume(skip);
                self.to_client(input, data).await?;
            } else {
                let taken = body.scan(bytes).map_err(|e| self.broken(e))?.take;
                self.to_client(input, taken).await?;
            }
        }
        Ok(())
    }

    /// Sends the first `length` bytes.
    async fn to_client(&self, input: &mut Buffer, length: usize) -> Result<(), Failure> {
        let bytes = &input.bytes()[..length];
        self.shared
            .write_all(self.run.client, bytes)
            .await
            .map_err(|_| Failure::ClientGone)?;
        self.shared.down.set(self.shared.down.get() + length as u64);
        input.consume(length);
        Ok(())
    }

    fn broken(&self, error: BodyError) -> Failure {
        self.upstream_fault(
            ErrorType::HttpProtocolError,
            &format!("the upstream's response: {error}"),
        )
    }

    fn upstream_fault(&self, error: ErrorType, why: &str) -> Failure {
        Failure::Fault(Answer::new(502, error, Side::Upstream, why.to_owned()))
    }

    fn silent(&self, what: &str) -> Failure {
        let why = format!("the upstream {what} before it sent a response");
        let answer = Answer::new(502, ErrorType::ConnectionTerminated, Side::Upstream, why);
        self.nothing(answer)
    }

    /// The connection broke before anything came. In TLS 1.3 that is how a manager refuses the client certificate: its side of the
    /// handshake ends after HNP's (RFC 8446 appendix E.1.2).
    fn cut(&self, error: &io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(RecordError::Alert(alert)) = inner else {
            return self.silent(&format!("cut the connection ({error})"));
        };
        let why = explain::upstream(&rustls::Error::AlertReceived(*alert));
        let why = format!("the TLS handshake with the upstream failed: {why}");
        self.nothing(Answer::new(
            502,
            ErrorType::TlsAlertReceived,
            Side::Upstream,
            why,
        ))
    }

    fn nothing(&self, answer: Answer) -> Failure {
        // Who has sent an interim response has begun to work on the request.
        if self.shared.heard.get() {
            Failure::Fault(answer)
        } else {
            Failure::Silent(answer)
        }
    }
}
