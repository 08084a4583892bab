//! What the control thread says of the certificates in force: to metrics, and to the log when they end soon.

use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::admin::metrics::{Certificate, Metrics};
use crate::tls::Loaded;
use crate::worker::Snapshot;

/// How often the ends of certificates are looked at.
pub(super) const LOOKED_AT: Duration = Duration::from_secs(86_400);

/// After a start or a reload: metrics, and all that is odd about the files.
pub(super) fn in_force(snapshot: &Snapshot, metrics: &Metrics) {
    metrics.certificates(loaded(snapshot).map(Certificate::from));
    metrics.endpoints().configure(&snapshot.config);
    let of_server = snapshot.tls.iter().flat_map(|tls| tls.warnings());
    for warning in of_server.chain(snapshot.clients.warnings()) {
        tracing::warn!("{warning}");
    }
    warn_of_ends(snapshot);
}

/// Says which certificates have ended or will soon.
pub(super) fn warn_of_ends(snapshot: &Snapshot) {
    let now = UnixTime::now();
    for warning in loaded(snapshot).filter_map(|one| one.warning(now)) {
        tracing::warn!("{warning}");
    }
}

fn loaded(snapshot: &Snapshot) -> impl Iterator<Item = &Loaded> {
    let of_server = snapshot.tls.iter().flat_map(|tls| tls.certificates());
    of_server.chain(snapshot.clients.certificates())
}

impl From<&Loaded> for Certificate {
    fn from(loaded: &Loaded) -> Certificate {
        Certificate {
            role: loaded.role.as_str(),
            part: loaded.part.to_string(),
            file: loaded.path.display().to_string(),
            subject: loaded.subject.to_string(),
            not_after: loaded.not_after,
        }
    }
}
