//! Envoy: an HTTP connection manager; its tunnel is CONNECT over TLS, terminated, to a fixed cluster.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context as _;

use super::{Doors, Launch, Peer, Site, addresses};
use crate::mutual::load::Speaks;
use crate::mutual::pki::NAME;
use crate::peers::program;

pub(super) const PEER: Peer = Peer {
    name: "envoy",
    about: "concurrency 1, no log, no request id; its tunnel: CONNECT over TLS",
    prepare,
};

fn prepare(site: &Site<'_>) -> anyhow::Result<Launch> {
    let [plain, mutual, tunnel] = addresses()?;
    let envoy = match &site.programs.envoy {
        Some(envoy) => envoy.clone(),
        None => program("envoy").context("no Envoy was named")?,
    };
    let text = configuration(site, plain, mutual, tunnel);
    let file = site.file("envoy.yaml", &text)?;
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
        doors: Doors {
            plain,
            mutual,
            tunnel: (tunnel, Speaks::Connect(site.echo())),
        },
    })
}

fn configuration(
    site: &Site<'_>,
    plain: SocketAddr,
    mutual: SocketAddr,
    tunnel: SocketAddr,
) -> String {
    let to_manager = "match: { prefix: \"/\" }
                route: { cluster: manager, timeout: 0s }";
    let to_echo = "match: { connect_matcher: {} }
                route: { cluster: echo, timeout: 0s, idle_timeout: 3600s, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }";
    let inward = format!(
        r#"
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context: {}"#,
        common(site, "server")
    );
    format!(
        r#"static_resources:
  listeners:{}{}{}
  clusters:
  - name: manager
    connect_timeout: 10s
    circuit_breakers: {BREAKERS}
    load_assignment: {}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {NAME}
        common_tls_context: {}
  - name: echo
    connect_timeout: 10s
    circuit_breakers: {BREAKERS}
    load_assignment: {}
"#,
        listener("plain", plain, to_manager, ""),
        listener("mutual", mutual, to_manager, &inward),
        listener("tunnel", tunnel, to_echo, &inward),
        endpoint("manager", site.manager()),
        common(site, "client"),
        endpoint("echo", site.echo()),
    )
}

/// The defaults (1024) would refuse the idle tunnels.
const BREAKERS: &str = "{ thresholds: [{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }] }";

fn common(site: &Site<'_>, stem: &str) -> String {
    let (certificate, key) = (site.pki.file(stem, "crt"), site.pki.file(stem, "key"));
    let names = if stem == "client" {
        format!(
            ", match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {NAME} }} }}]"
        )
    } else {
        String::new()
    };
    format!(
        "{{ tls_certificates: [{{ certificate_chain: {{ filename: \"{}\" }}, private_key: {{ filename: \"{}\" }} }}], \
         validation_context: {{ trusted_ca: {{ filename: \"{}\" }}{names} }}, \
         tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }} }}",
        certificate.display(),
        key.display(),
        site.pki.ca().display()
    )
}

fn endpoint(cluster: &str, address: SocketAddr) -> String {
    format!(
        "{{ cluster_name: {cluster}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}] }}",
        socket(address)
    )
}

fn socket(address: SocketAddr) -> String {
    format!(
        "{{ socket_address: {{ address: \"{}\", port_value: {} }} }}",
        address.ip(),
        address.port()
    )
}

fn listener(name: &str, address: SocketAddr, route: &str, tls: &str) -> String {
    let api = "type.googleapis.com/envoy.extensions";
    let address = socket(address);
    format!(
        r#"
  - name: {name}
    address: {address}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {api}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          generate_request_id: false
          stream_idle_timeout: 3600s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": {api}.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            virtual_hosts:
            - name: any
              domains: ["*"]
              routes:
              - {route}{tls}"#
    )
}
