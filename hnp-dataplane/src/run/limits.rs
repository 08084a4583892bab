//! The process's own limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::model::Config;

/// Descriptors that are not connections: listeners, rings, logs, pipes.
pub(crate) const OTHERS: u64 = 256;

/// Raises the limit of open files as far as allowed, and warns when that is not enough for what is configured.
pub(super) fn raise_open_files(config: &Config) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    // A tunnel is two sockets; pipes come and go.
    let wanted = config.limits.connections as u64 * 2 + OTHERS;
    if limit < wanted {
        tracing::warn!(
            "limits.connections is {}, which takes {wanted} open files, but the limit is {limit}: HNP will be full at about {} \
             connections (raise LimitNOFILE=, ulimit -n, or lower limits.connections)",
            config.limits.connections,
            limit.saturating_sub(OTHERS) / 2
        );
    }
}
