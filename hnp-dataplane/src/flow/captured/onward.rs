//! Where a captured connection goes.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::super::account::Account;
use super::super::h2;
use super::super::identify::{self, Asked, Begins};
use super::super::relay::Tunnel;
use super::super::reverse::{self, Peer, Served};
use super::{Captured, detect, refuse};
use crate::access_log::ClosedBy;
use crate::config::model::UpstreamNamespace;
use crate::dial::{Cause, DialError, Dialled, Side};
use crate::http::answer::Answer;
use crate::http::head::HeadError;
use crate::intercept::{Intercepted, Verdict};
use crate::policy::Decision;
use crate::relay::Leg;
use crate::stream::Stream;
use crate::target::{Host, Target};
use crate::uring;
use crate::worker::{Snapshot, Worker};

/// A captured connection of which it is known what is done with it.
pub(super) struct Onward<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) account: &'a Account,
    pub(super) intercepted: &'a Intercepted,
    pub(super) captured: &'a Captured,
    pub(super) verdict: Verdict,
}

impl Onward<'_> {
    /// What the client asked for: the address, or the name where that decided and so has to be true.
    fn target(&self, by_name: bool) -> Target {
        let original = self.captured.original.address;
        let host = match self.captured.name().filter(|_| by_name) {
            Some(name) => Host::Name(name.into()),
            None => Host::Address(original.ip()),
        };
        Target {
            host,
            port: original.port(),
        }
    }

    /// To where it was meant to go.
    pub(super) async fn relay(&self, client: Stream, early: Vec<u8>) -> Option<Tunnel> {
        let target = self.target(self.verdict.by_name);
        let host = self.intercepted.upstream_namespace == UpstreamNamespace::Host;
        // Out of the pod goes what the pod could reach by itself: only what is denied by name or network is refused. Out of the host goes
        // what any client of HNP's may ask for.
        let (policy, who) = (&self.snapshot.policy, self.account.identities());
        let decision = match host {
            true => policy.check_target(&target, &who),
            // The name counts where it is known, whether or not it decided.
            false => policy.check_pod(&self.target(true), &who),
        };
        self.account.decided(decision);
        if !decision.allowed {
            return self.denied(client, &decision);
        }
        let original = self.captured.original.address;
        let netns = (!host).then_some(&self.captured.pod.netns);
        let allowed = |address: IpAddr| match host {
            true => policy.check_address(&target, address, &who),
            false => policy.check_pod_address(&target, address, &who),
        };
        let dialled = tokio::select! {
            biased;
            dialled = self.snapshot.dialer.dial_original(&target, original, netns, allowed) => dialled,
            error = client.broken() => return self.gone(&error),
        };
        self.open(client, early, dialled).await
    }

    /// Through the parent proxy.
    pub(super) async fn tunnel(&self, client: Stream, early: Vec<u8>) -> Option<Tunnel> {
        let target = self.target(true);
        let who = self.account.identities();
        let decision = self.snapshot.policy.check_target(&target, &who);
        self.account.decided(decision);
        if !decision.allowed {
            return self.denied(client, &decision);
        }
        let dialled = tokio::select! {
            biased;
            dialled = self.snapshot.dialer.dial_parent(&self.worker.metrics, &target) => dialled,
            error = client.broken() => return self.gone(&error),
        };
        self.open(client, early, dialled).await
    }

    async fn open(
        &self,
        client: Stream,
        mut early: Vec<u8>,
        dialled: Result<Dialled, DialError>,
    ) -> Option<Tunnel> {
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                let by = match error.side() {
                    Side::Policy | Side::Hnp => ClosedBy::Hnp,
                    Side::Dns | Side::Upstream | Side::Parent => ClosedBy::Upstream,
                };
                if let Cause::Policy(reason) = &error.cause {
                    self.account.decided(Decision {
                        allowed: false,
                        reported: false,
                        reason: *reason,
                    });
                } else {
                    self.worker.metrics.dial_error(error.code());
                }
                refuse(client, self.account, by, error.code(), error.to_string());
                return None;
            }
        };
        self.worker.metrics.dialled(dialled.connect);
        let parent = match dialled.via_parent {
            true => self.snapshot.parent.clone(),
            false => None,
        };
        let resolve = (!dialled.resolve.is_zero()).then_some(dialled.resolve);
        self.account
            .dialled(dialled.address, parent, resolve, dialled.connect);
        let timeouts = &self.snapshot.config.timeouts;
        if early.is_empty() && dialled.early.is_empty() {
            let stopped = async {
                // What is silent for so long, the relay ends.
                let _ = uring::timeout(timeouts.tunnel_idle.0, self.worker.stopping.wait()).await;
            };
            let head = &self.snapshot.head;
            match detect::overhear(&client, &dialled.stream, head, stopped).await {
                Ok(seen) => {
                    early = seen.received;
                    self.captured.overheard(seen.name);
                }
                Err(error) => return self.gone(&error),
            }
        }
        Some(Tunnel {
            client: Leg::new(client, early),
            upstream: Leg::new(dialled.stream, dialled.early),
            idle: timeouts.tunnel_idle.0,
            lifetime: timeouts.tunnel_lifetime.map(|lifetime| lifetime.0),
        })
    }

    /// Its plaintext requests are served by the manager.
    pub(super) async fn requests(&self, client: Stream, early: Vec<u8>) -> Option<Tunnel> {
        let (worker, snapshot, account) = (self.worker, self.snapshot, self.account);
        let Some(route) = &snapshot.route else {
            let why = "there is no manager: set `url` in [upstream]".to_owned();
            refuse(client, account, ClosedBy::Hnp, "no_upstream", why);
            return None;
        };
        let peer = Peer {
            mode: MODE,
            route: Arc::clone(route),
            over_tls: false,
            client_certificate: None,
        };
        let asked =
            identify::read(worker, snapshot, &client, early, Begins::Captured, account).await;
        let served = match asked {
            Ok(Some(Asked::Requests(received))) => {
                Box::pin(reverse::serve(
                    worker, snapshot, client, received, &peer, account,
                ))
                .await
            }
            Ok(Some(Asked::Http2(received))) => {
                let access = h2::Access {
                    requests: Ok(peer),
                    tunnels: Err(Answer::from(HeadError::OriginForm)),
                };
                Box::pin(h2::serve(
                    worker, snapshot, client, received, access, account,
                ))
                .await;
                Served::Closed
            }
            Ok(Some(Asked::Tls(_))) => return self.not_http(client, "it begins with TLS"),
            Ok(Some(Asked::Tunnel(_) | Asked::Forward(_))) => {
                return self.not_http(client, "it asks for a proxy");
            }
            Ok(None) => return None,
            Err(answer) => return self.not_http(client, answer.why()),
        };
        match served {
            Served::Closed => None,
            Served::Upgraded(tunnel) => Some(tunnel),
            Served::Other { client, .. } => self.not_http(client, "it asks for a proxy"),
        }
    }

    fn not_http(&self, client: Stream, what: &str) -> Option<Tunnel> {
        let why = format!(
            "rule {} says `mtls`, which is for plaintext HTTP to a server, and this is none: {what}",
            self.verdict.rule
        );
        refuse(client, self.account, ClosedBy::Hnp, "not_http", why);
        None
    }

    fn denied(&self, client: Stream, decision: &Decision) -> Option<Tunnel> {
        let why = format!("policy refuses it: {}", decision.reason);
        refuse(
            client,
            self.account,
            ClosedBy::Hnp,
            decision.reason.code(),
            why,
        );
        None
    }

    fn gone(&self, error: &std::io::Error) -> Option<Tunnel> {
        self.account.closed(ClosedBy::Client, "reset");
        let why = format!("the client was gone before its destination was connected: {error}");
        self.account.detail(why);
        None
    }
}

/// In the log: how it is served.
pub(super) const MODE: &str = "intercept";
