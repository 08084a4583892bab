//! Every metric: its name, kind, labels and meaning, in one place.
//!
//! A scrape shows exactly these, and `docs/observability.md` describes exactly these (tests hold both).

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// A level.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// As the exposition format and the documentation call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric as it is exposed.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// The full name, `_total` included.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels, in the order in which they are exposed.
    pub labels: &'static [&'static str],
    /// One sentence without a full stop, the unit included.
    pub help: &'static str,
}

macro_rules! names {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $constant: Name =
                Name { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// All of them, in the order of a scrape.
        pub const ALL: &[&Name] = &[$(&$constant),*];
    };
}

names! {
    CONNECTIONS_ACCEPTED = Counter "hnp_connections_accepted_total" ["worker"] "Client connections accepted";
    CONNECTIONS_ACTIVE = Gauge "hnp_connections_active" ["worker"] "Client connections open now";
    TUNNELS_ACTIVE = Gauge "hnp_tunnels_active" ["worker"] "Tunnels (CONNECT answered 200) open now";
    BYTES = Counter "hnp_bytes_total" ["worker", "direction"] "Payload bytes relayed, up is from the client to the target";
    TASKS = Gauge "hnp_tasks" ["worker"] "Tasks alive on the worker's executor";
    PIPES = Gauge "hnp_pipes" ["worker", "state"] "Pipes the worker holds open for splicing, idle in its pool or in use";
    BUFFERS = Gauge "hnp_buffers" ["worker", "state"] "Relay buffers the worker holds, idle in its pool or in use";
    BACKEND_INFO = Gauge "hnp_backend_info" ["worker", "backend"] "Always 1, what the worker waits with";
    REQUESTS = Counter "hnp_requests_total" ["mode", "status"] "Requests answered, by mode and HTTP status sent to the client";
    DECISIONS = Counter "hnp_decisions_total" ["decision", "reason"] "Policy decisions, report is what would have been denied";
    RESOLVE = Histogram "hnp_resolve_seconds" [] "Seconds from asking for a name to its addresses, cache hits included";
    DIAL = Histogram "hnp_dial_seconds" [] "Seconds from the first connection attempt to a connected target or parent proxy";
    DIAL_ERRORS = Counter "hnp_dial_errors_total" ["error"] "Targets not reached, by error type of RFC 9209";
    CLOSES = Counter "hnp_closes_total" ["by", "reason"] "Client connections closed, by the side that ended them and why";
    TUNNEL_SECONDS = Histogram "hnp_tunnel_seconds" [] "Seconds from the 200 to the end of a tunnel";
    TLS_HANDSHAKES = Counter "hnp_tls_handshakes_total" ["side", "result", "version", "resumed"] "TLS handshakes that ended, with clients and with upstreams, by what became of them";
    TLS_HANDSHAKE = Histogram "hnp_tls_handshake_seconds" ["side"] "Seconds from the first byte to the end of TLS handshakes that were completed";
    TLS_HANDSHAKES_ACTIVE = Gauge "hnp_tls_handshakes_active" ["worker", "side"] "TLS handshakes under way now";
    UPSTREAM_CONNECTIONS = Gauge "hnp_upstream_connections" ["worker", "state"] "Connections to upstreams of the reverse proxy, idle in the worker's pool or in use";
    UPSTREAM_REQUESTS = Counter "hnp_upstream_requests_total" ["connection"] "Requests sent to upstreams of the reverse proxy, by the connection they went over";
    HTTP2_STREAMS = Counter "hnp_http2_streams_total" ["worker", "side"] "HTTP/2 streams opened, by clients and to upstreams";
    HTTP2_STREAMS_ACTIVE = Gauge "hnp_http2_streams_active" ["worker", "side"] "HTTP/2 streams open now, by clients and to upstreams";
    ENDPOINT_CONNECTIONS = Counter "hnp_endpoint_connections_total" ["endpoint", "client_certificate"] "TLS connections whose handshake was completed, by endpoint and whether the client showed a certificate";
    ENDPOINT_WITHOUT_CERTIFICATE = Gauge "hnp_endpoint_clients_without_certificate" ["endpoint"] "Client addresses remembered that came without a certificate where one is asked for, at most 1000 an endpoint; /endpoints names them";
    CERTIFICATE_EXPIRY = Gauge "hnp_certificate_expiry_seconds" ["role", "part", "file", "subject"] "Seconds until a loaded certificate (or revocation list) ends, negative once it has";
    CERTIFICATE_RELOADS = Counter "hnp_certificate_reloads_total" ["result"] "Reloads because certificates, keys, authorities or revocation lists had changed, failed ones keep the old ones";
    CERTIFICATE_LAST_RELOAD = Gauge "hnp_certificate_last_reload_timestamp_seconds" [] "Unix time in seconds at which the certificates in force were loaded, absent without any";
    INTERCEPT_PODS = Gauge "hnp_intercept_pods" [] "Pods whose connections are intercepted now";
    INTERCEPT_CONNECTIONS = Counter "hnp_intercept_connections_total" ["pod", "action", "outcome"] "Connections of a pod that HNP has had, at their end: served, denied by a rule or policy, or failed on the way to their destination";
    INTERCEPT_BYTES = Counter "hnp_intercept_bytes_total" ["pod", "direction"] "Payload bytes of a pod's connections that HNP has had, up is from the pod";
    INTERCEPT_MISSES = Counter "hnp_intercept_lookup_misses_total" ["pod"] "Connections reset because nobody knew where they were meant to go";
    INTERCEPT_KERNEL = Counter "hnp_intercept_kernel_total" ["pod", "decision"] "What the eBPF programs decided for a pod, and what they lacked memory for";
    DNS_LOOKUPS = Counter "hnp_dns_lookups_total" ["result"] "Name lookups, by what became of them";
    DNS_CACHE_ENTRIES = Gauge "hnp_dns_cache_entries" [] "Names in the DNS cache";
    LOG_LINES_DROPPED = Counter "hnp_log_lines_dropped_total" ["log"] "Log lines dropped because their reader was too slow or gone";
    CONFIG_RELOADS = Counter "hnp_config_reloads_total" ["result"] "Configuration reloads, failed ones keep the old configuration";
    CONFIG_LAST_RELOAD = Gauge "hnp_config_last_reload_timestamp_seconds" [] "Unix time in seconds at which the configuration in force was loaded";
    UPSTREAM_REACHABLE = Gauge "hnp_upstream_reachable" [] "1 if the last probe reached the upstream (or the parent proxy), 0 if not, absent without an upstream";
    DRAINING = Gauge "hnp_draining" [] "1 while HNP drains, else 0";
    BUILD_INFO = Gauge "hnp_build_info" ["version"] "Always 1, the version that runs";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "Seconds of CPU time spent, user and system";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory in bytes";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [] "Virtual memory in bytes";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "Soft limit of open file descriptors";
    PROCESS_THREADS = Gauge "process_threads" [] "Threads of the process";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Unix time in seconds at which the process started";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let mut seen = std::collections::HashSet::new();
        for Name {
            name,
            kind,
            labels,
            help,
        } in ALL
        {
            assert!(seen.insert(name), "{name} twice");
            assert!(
                name.starts_with("hnp_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(
                name.ends_with("_seconds"),
                *kind == Kind::Histogram || name.contains("time") || name.contains("expiry"),
                "{name}"
            );
            assert!(!labels.contains(&"le"), "{name}: le is the histogram's own");
            assert!(
                !help.ends_with('.') && !help.contains(['\n', '\\', '"']),
                "{name}: {help}"
            );
        }
    }
}
