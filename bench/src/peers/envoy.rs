//! Envoy: terminates CONNECT and connects to whatever is asked for (dynamic forward proxy), one worker.

use std::process::Command;

use anyhow::Context as _;

use super::{LISTEN, Launch, Peer, Site, port, program};

pub(super) const PEER: Peer = Peer {
    name: "envoy",
    about: "CONNECT, concurrency 1",
    connect: true,
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let port = port()?;
    let envoy = match &site.programs.envoy {
        Some(envoy) => envoy.clone(),
        None => program("envoy").context("no Envoy was named")?,
    };
    let file = site.file("envoy.yaml", &configuration(port))?;
    let mut command = Command::new(envoy);
    command.arg("-c").arg(file).args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ]);
    Ok(Launch {
        command,
        route: site.connect(port),
    })
}

/// The circuit breakers' defaults (1024) would refuse the idle tunnels.
fn configuration(port: u16) -> String {
    let api = "type.googleapis.com/envoy.extensions";
    let cache = "{ name: cache, dns_lookup_family: V4_ONLY }";
    format!(
        r#"static_resources:
  listeners:
  - name: connect
    address: {{ socket_address: {{ address: "{LISTEN}", port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {api}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: connect
          stream_idle_timeout: 3600s
          http_filters:
          - name: envoy.filters.http.dynamic_forward_proxy
            typed_config:
              "@type": {api}.filters.http.dynamic_forward_proxy.v3.FilterConfig
              dns_cache_config: {cache}
          - name: envoy.filters.http.router
            typed_config:
              "@type": {api}.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: any
              domains: ["*"]
              routes:
              - match: {{ connect_matcher: {{}} }}
                route:
                  cluster: any
                  timeout: 0s
                  idle_timeout: 3600s
                  upgrade_configs: [{{ upgrade_type: CONNECT, connect_config: {{}} }}]
  clusters:
  - name: any
    connect_timeout: 10s
    lb_policy: CLUSTER_PROVIDED
    circuit_breakers:
      thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}]
    cluster_type:
      name: envoy.clusters.dynamic_forward_proxy
      typed_config:
        "@type": {api}.clusters.dynamic_forward_proxy.v3.ClusterConfig
        dns_cache_config: {cache}
"#
    )
}
