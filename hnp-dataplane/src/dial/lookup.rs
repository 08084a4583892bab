//! One name's way through hosts file, search list and name servers, on the control thread.
//!
//! A name with fewer dots than `ndots` is first tried below each search domain, then as it is; else the other way round
//! (resolv.conf(5)). Kubernetes sets `ndots:5`: there `app.harness.io` costs a question below each of the three search
//! domains before the name itself is asked for. That is what every program in the pod does, and so what users expect; the
//! answer is then cached under the name as it was asked for.
//!
//! For each candidate A and AAAA are asked for at once, and both answers come from the same candidate: IPv4 from the search
//! list and IPv6 from elsewhere would be two different hosts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::hosts::Hosts;
use super::race::Batch;

/// Addresses kept of one answer: more are of no use to a race that starts four a second.
const MOST: usize = 16;

/// How long what the hosts file says is kept: its changes are to be noticed.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// How long a failure is kept when no server said: RFC 9520 section 3.2 wants at least a second.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// What there is to know of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) v4: Arc<[IpAddr]>,
    pub(super) v6: Arc<[IpAddr]>,
    /// Why there is no address, when there is none.
    pub(super) failure: Option<Failure>,
}

/// Why there is no address. In order of how much is to be blamed on the servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// NXDOMAIN.
    NoName,
    /// No records of these types.
    NoAddress,
    /// No answer.
    Timeout,
    /// What the servers, or the way to them, answered instead.
    Server(String),
}

impl Answer {
    pub(super) fn failed(failure: Failure) -> Answer {
        Answer {
            v4: Arc::default(),
            v6: Arc::default(),
            failure: Some(failure),
        }
    }
}

/// Where names are looked up.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) servers: TokioResolver,
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
    pub(super) hosts: Hosts,
}

impl Sources {
    /// Resolves `name` (lower case, no trailing dot); also how long the answer may be kept. `early` is told the first
    /// family's addresses while the other's are still awaited.
    pub(super) async fn resolve(&self, name: &str, early: impl Fn(Batch)) -> (Answer, Duration) {
        let listed = self.hosts.find(name);
        if !listed.is_empty() {
            let family = |v4: bool| {
                listed
                    .iter()
                    .copied()
                    .filter(|address| address.is_ipv4() == v4)
                    .collect()
            };
            return (
                Answer {
                    v4: family(true),
                    v6: family(false),
                    failure: None,
                },
                HOSTS_TTL,
            );
        }
        let mut worst = (Failure::NoName, FAILURE_TTL);
        for candidate in self.candidates(name) {
            match self.ask(candidate, &early).await {
                Ok(answer) => return answer,
                Err(failure) if failure.0 >= worst.0 => worst = failure,
                Err(_) => {}
            }
        }
        (Answer::failed(worst.0), worst.1)
    }

    fn candidates(&self, name: &str) -> Vec<Name> {
        let Ok(mut plain) = Name::from_ascii(name) else {
            return Vec::new();
        };
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let below = self
            .search
            .iter()
            .filter_map(|domain| plain.clone().append_domain(domain).ok());
        let mut all: Vec<Name> = below.collect();
        plain.set_fqdn(true);
        if dots >= self.ndots {
            all.insert(0, plain);
        } else {
            all.push(plain);
        }
        for candidate in &mut all {
            candidate.set_fqdn(true);
        }
        all
    }

    async fn ask(
        &self,
        name: Name,
        early: &impl Fn(Batch),
    ) -> Result<(Answer, Duration), (Failure, Duration)> {
        let (v4, v6) = tokio::join!(
            async {
                let answer = self.ask_for(name.clone(), RecordType::A).await;
                if let Ok((addresses, _)) = &answer {
                    early(Batch::V4(Arc::clone(addresses)));
                }
                answer
            },
            async {
                let answer = self.ask_for(name.clone(), RecordType::AAAA).await;
                if let Ok((addresses, _)) = &answer {
                    early(Batch::V6(Arc::clone(addresses)));
                }
                answer
            }
        );
        match (v4, v6) {
            (Ok((v4, ttl4)), Ok((v6, ttl6))) => Ok((
                Answer {
                    v4,
                    v6,
                    failure: None,
                },
                ttl4.min(ttl6),
            )),
            (Ok((v4, ttl)), Err(other)) => Ok((
                Answer {
                    v4,
                    v6: Arc::default(),
                    failure: None,
                },
                kept(ttl, other),
            )),
            (Err(other), Ok((v6, ttl))) => Ok((
                Answer {
                    v4: Arc::default(),
                    v6,
                    failure: None,
                },
                kept(ttl, other),
            )),
            (Err(a), Err(b)) => Err(if a.0 >= b.0 { a } else { b }),
        }
    }

    async fn ask_for(
        &self,
        name: Name,
        kind: RecordType,
    ) -> Result<(Arc<[IpAddr]>, Duration), (Failure, Duration)> {
        let lookup = match self.servers.lookup(name, kind).await {
            Ok(lookup) => lookup,
            Err(error) => return Err(failure(&error)),
        };
        let addresses: Arc<[IpAddr]> = lookup
            .answers()
            .iter()
            .filter_map(|record| record.data.ip_addr())
            .take(MOST)
            .collect();
        // The chain of aliases counts: it may lead elsewhere sooner than the address changes.
        let chain = lookup.answers().iter().filter(|record| {
            record.record_type() == kind || record.record_type() == RecordType::CNAME
        });
        let ttl = chain.map(|record| record.ttl).min().unwrap_or(0);
        if addresses.is_empty() {
            return Err((Failure::NoAddress, FAILURE_TTL));
        }
        Ok((addresses, Duration::from_secs(ttl.into())))
    }
}

/// An answer whose other half is a server's failure is asked for again soon; "no such records" is no failure.
fn kept(ttl: Duration, (failure, other): (Failure, Duration)) -> Duration {
    match failure {
        Failure::NoName | Failure::NoAddress => ttl,
        Failure::Timeout | Failure::Server(_) => ttl.min(other.max(Duration::from_secs(10))),
    }
}

fn failure(error: &NetError) -> (Failure, Duration) {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let failure = match none.response_code {
                ResponseCode::NXDomain => Failure::NoName,
                ResponseCode::NoError => Failure::NoAddress,
                code => Failure::Server(code.to_string()),
            };
            // RFC 2308 section 5: only what comes with an SOA may be kept.
            let ttl = none
                .negative_ttl
                .map_or(FAILURE_TTL, |seconds| Duration::from_secs(seconds.into()));
            (failure, ttl)
        }
        NetError::Dns(DnsError::ResponseCode(code)) => {
            (Failure::Server(code.to_string()), FAILURE_TTL)
        }
        NetError::Timeout => (Failure::Timeout, FAILURE_TTL),
        other => (Failure::Server(other.to_string()), FAILURE_TTL),
    }
}
