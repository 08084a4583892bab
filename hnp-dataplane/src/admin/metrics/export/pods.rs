//! What is exported of pods.

use std::fmt;

use super::{Encoder, Exporter};
use crate::admin::names;

impl Exporter {
    pub(super) fn pods(&self, to: &mut Encoder<'_>) -> fmt::Result {
        let pods = self.0.pods.counts();
        to.plain(&names::INTERCEPT_PODS, Some(pods.len() as u64))?;
        let connections = pods.iter().flat_map(|one| {
            let counts = one.connections.iter();
            counts.map(|(action, outcome, count)| {
                let labels = [one.pod.clone(), (*action).into(), (*outcome).into()];
                (labels, *count)
            })
        });
        to.samples(&names::INTERCEPT_CONNECTIONS, connections)?;
        let bytes = pods.iter().flat_map(|one| {
            let label = |direction: &str| [one.pod.clone(), direction.into()];
            [(label("up"), one.bytes[0]), (label("down"), one.bytes[1])]
        });
        to.samples(&names::INTERCEPT_BYTES, bytes)?;
        let misses = pods.iter().map(|one| ([one.pod.clone()], one.misses));
        to.samples(&names::INTERCEPT_MISSES, misses)?;
        let kernel = pods.iter().flat_map(|one| {
            let counts = one.kernel.iter();
            counts.map(|(decision, count)| ([one.pod.clone(), (*decision).into()], *count))
        });
        to.samples(&names::INTERCEPT_KERNEL, kernel)
    }
}
