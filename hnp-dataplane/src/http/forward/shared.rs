//! A request of HTTP/1.1 for an upstream that is spoken to in HTTP/2: the exchange is the one of HTTP/2's own clients.

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::time::Instant;

use super::buffer::Buffer;
use super::connection::{Connection, Turn};
use super::plan::Plan;
use super::{Exchange, ExchangeEnd, Gate, Shared, Traffic};
use crate::http::answer::Answer;
use crate::http::h2::asker::{Asked, Client, Received};
use crate::http::h2::content::Content;
use crate::http::h2::exchange::{Failure, Progress, Refused, upstream_failed};
use crate::http::h2::message::Broken;
use crate::http::proxy_status::{ErrorType, Side};
use crate::relay::Ledger;

/// Bytes of one exchange, which are the connection's, too.
struct Count<'a> {
    traffic: &'a Traffic,
    up: Cell<u64>,
    down: Cell<u64>,
}

impl Ledger for Count<'_> {
    fn sent_up(&self, bytes: usize) {
        self.up.set(self.up.get() + bytes as u64);
        let traffic = &self.traffic.up;
        traffic.set(traffic.get() + bytes as u64);
    }

    fn sent_down(&self, bytes: usize) {
        self.down.set(self.down.get() + bytes as u64);
        let traffic = &self.traffic.down;
        traffic.set(traffic.get() + bytes as u64);
    }
}

impl<G: Gate, D: Future<Output = ()>> Connection<'_, G, D> {
    /// Brings an admitted request to its end.
    pub(super) async fn carry_shared(
        &mut self,
        plan: &Plan,
        hop: &G::Hop,
        head_length: u64,
        started: Instant,
    ) -> Turn {
        if plan.upgrades {
            let why = "a switch of protocols (Upgrade, as for WebSockets) cannot be passed on: the upstream is reached by HTTP/2 alone (its protocol is `h2`)";
            let answer = Answer::new(501, ErrorType::HttpUpgradeFailed, Side::Configuration, why);
            let answer = self.gate.about(hop, answer);
            self.answer(plan, head_length, started, answer).await;
            return Turn::Close;
        }
        let traffic = std::rc::Rc::clone(&self.traffic);
        let count = Count {
            traffic: &traffic,
            up: Cell::new(0),
            down: Cell::new(0),
        };
        let progress = Progress::new(&count);
        let received = mem::take(&mut self.input);
        let received = Received::new(&self.client, received.bytes(), plan.framing);
        let mut content = Content::new(received);
        let asked = Asked {
            is_head: plan.is_head,
            knows_http11: plan.knows_http11(),
            keeps: plan.keeps_alive && !self.gate.is_draining(),
        };
        let mut client = Client::new(&self.client, asked, &progress);
        let request = Shared {
            head: &self.head,
            method: plan.method(),
            framing: plan.framing,
            is_idempotent: plan.is_idempotent,
        };
        let carried = self
            .gate
            .share(hop, request, &mut content, &mut client, &progress)
            .await;
        let (kept, spoken) = (client.is_kept(), client.has_spoken());
        let rest = content.into_source().into_rest();
        let exchange = |end| Exchange {
            status: progress.status.get(),
            up: head_length + count.up.get(),
            down: count.down.get(),
            started,
            reused: false,
            end,
        };
        let answer = match carried {
            Ok(()) => {
                self.gate.finished(&exchange(ExchangeEnd::Complete));
                self.input = Buffer::from(rest);
                return match kept {
                    true => Turn::Next,
                    false => Turn::Close,
                };
            }
            Err(Refused::Answer(answer) | Refused::Failure(Failure::Idle(answer))) => answer,
            Err(Refused::Failure(Failure::Upstream(broken))) => upstream_failed(&broken),
            Err(Refused::Failure(Failure::Client(Broken::Malformed(error, why)))) => {
                let why = format!("the request's content cannot be read: {why}");
                Answer::new(400, error, Side::Client, why)
            }
            Err(Refused::Failure(Failure::Client(_))) => {
                self.gate.finished(&exchange(ExchangeEnd::ClientGone));
                return Turn::Reset;
            }
        };
        if spoken {
            self.gate.finished(&exchange(ExchangeEnd::Cut(answer)));
            return Turn::Reset;
        }
        let up = head_length + count.up.get();
        let answer = self.gate.about(hop, answer);
        self.answer(plan, up, started, answer).await;
        Turn::Close
    }
}
