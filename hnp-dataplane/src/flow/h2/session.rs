//! What the requests of a connection have in common.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::Access;
use crate::flow::reverse::Peer;
use crate::http::answer::Answer;
use crate::http::h2::server::Place;
use crate::http::proxy_status::{ErrorType, Side};
use crate::http::reverse::{Client, Rewriter};
use crate::origin::{Origin, Route};
use crate::worker::{Snapshot, Worker};

/// A client's connection.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    /// How requests are served, unless a reload has changed it.
    current: RefCell<Rc<Current>>,
    requests: Result<Peer, Answer>,
    tunnels: Result<(), Answer>,
    address: IpAddr,
}

/// How requests are served by one state of the configuration.
pub(super) struct Current {
    snapshot: Arc<Snapshot>,
    served: Result<Served, Answer>,
    tunnels: Result<(), Answer>,
}

/// How requests for the manager are served.
pub(super) struct Served {
    pub(super) mode: &'static str,
    route: Arc<Route>,
    rewriter: Rewriter,
}

impl Session {
    pub(super) fn new(
        worker: &Rc<Worker>,
        snapshot: &Arc<Snapshot>,
        access: Access,
        address: IpAddr,
    ) -> Session {
        let Access { requests, tunnels } = access;
        let served = match &requests {
            Ok(peer) => Ok(Served::new(peer, &peer.route, address)),
            Err(answer) => Err(answer.clone()),
        };
        Session {
            worker: Rc::clone(worker),
            current: RefCell::new(Rc::new(Current {
                snapshot: Arc::clone(snapshot),
                served,
                tunnels: tunnels.clone(),
            })),
            requests,
            tunnels,
            address,
        }
    }

    /// How the request at `place` is served: by the configuration that is in force now. A client that was let in by an earlier one is
    /// asked to come again, for who may come in can have changed as well.
    pub(super) fn current(&self, place: &Place) -> Rc<Current> {
        let mut current = self.current.borrow_mut();
        if !std::ptr::eq(
            Arc::as_ptr(&self.worker.shared.snapshot.load()),
            Arc::as_ptr(&current.snapshot),
        ) {
            place.goodbye();
            *current = Rc::new(self.anew());
        }
        Rc::clone(&current)
    }

    fn anew(&self) -> Current {
        let snapshot = self.worker.shared.snapshot.load_full();
        let served = match &self.requests {
            Ok(peer) => match snapshot.route_like(&peer.route) {
                Some(route) => Ok(Served::new(peer, route, self.address)),
                None => Err(Answer::new(
                    503,
                    ErrorType::ProxyConfigurationError,
                    Side::Configuration,
                    "what this connection was made for is not served any more",
                )),
            },
            Err(answer) => Err(answer.clone()),
        };
        let tunnels = match &self.tunnels {
            Ok(()) => snapshot.modes.tunnel(),
            Err(answer) => Err(answer.clone()),
        };
        Current {
            snapshot,
            served,
            tunnels,
        }
    }
}

impl Current {
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn served(&self) -> Result<&Served, Answer> {
        self.served.as_ref().map_err(Clone::clone)
    }

    pub(super) fn may_tunnel(&self) -> Result<(), Answer> {
        self.tunnels.clone()
    }
}

impl Served {
    fn new(peer: &Peer, route: &Arc<Route>, address: IpAddr) -> Served {
        let client = Client {
            address,
            over_tls: peer.over_tls,
            certificate: peer.client_certificate.as_deref(),
        };
        Served {
            mode: peer.mode,
            route: Arc::clone(route),
            rewriter: Rewriter::new(route, client),
        }
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.route.origin
    }

    pub(super) fn rewriter(&self) -> &Rewriter {
        &self.rewriter
    }
}
