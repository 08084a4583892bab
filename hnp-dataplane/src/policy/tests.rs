//! Decisions, table by table, and two properties over all addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn engine(toml: &str) -> Engine {
    Engine::compile(&toml::from_str(toml).unwrap()).unwrap()
}

/// `host:port`, IPv6 in brackets.
fn target(text: &str) -> Target {
    let (host, port) = text.rsplit_once(':').unwrap();
    let host = host.trim_matches(['[', ']']);
    let host = host
        .parse()
        .map_or_else(|_| Host::Name(host.into()), Host::Address);
    Target {
        host,
        port: port.parse().unwrap(),
    }
}

/// What happens to `target` when it resolves to `address`: the code of the first refusal, else of the last answer.
fn outcome(
    engine: &Engine,
    what: &str,
    address: &str,
    identity: Option<&str>,
) -> (bool, &'static str) {
    let target = target(what);
    let first = engine.check_target(&target, identity);
    if !first.allowed || address.is_empty() {
        return (first.allowed, first.reason.code());
    }
    let second = engine.check_address(&target, address.parse().unwrap(), identity);
    (second.allowed, second.reason.code())
}

fn table(engine: &Engine, rows: &[(&str, &str, &str)]) {
    for (what, address, expected) in rows {
        let allowed = [
            "upstream",
            "allow_rule",
            "public_address",
            "address_decides",
        ]
        .contains(expected);
        assert_eq!(
            outcome(engine, what, address, None),
            (allowed, *expected),
            "{what} at {address}"
        );
    }
}

#[test]
fn with_nothing_configured_nothing_is_reached() {
    table(
        &engine(""),
        &[
            ("app.harness.io:443", "", "not_allowed"),
            ("8.8.8.8:53", "", "not_allowed"),
            ("127.0.0.1:80", "", "loopback_address"),
            ("[::1]:80", "", "loopback_address"),
        ],
    );
}

#[test]
fn only_the_upstream_is_reached_without_rules() {
    table(
        &engine("[upstream]\nurl = \"https://App.Harness.io./gateway\""),
        &[
            ("app.harness.io:443", "34.1.2.3", "upstream"),
            ("app.harness.io:443", "10.1.2.3", "upstream"),
            ("app.harness.io:443", "127.0.0.1", "upstream"),
            ("app.harness.io:443", "169.254.169.254", "cloud_metadata"),
            (
                "app.harness.io:443",
                "::ffff:169.254.169.254",
                "cloud_metadata",
            ),
            ("app.harness.io:443", "fd00:ec2::254", "cloud_metadata"),
            ("app.harness.io:80", "", "not_allowed"),
            ("harness.io:443", "", "not_allowed"),
            ("x.app.harness.io:443", "", "not_allowed"),
            ("34.1.2.3:443", "", "not_allowed"),
        ],
    );
    table(
        &engine("[upstream]\nurl = \"http://169.254.169.254:8080\""),
        &[
            ("169.254.169.254:8080", "169.254.169.254", "upstream"),
            (
                "[::ffff:169.254.169.254]:8080",
                "::ffff:169.254.169.254",
                "upstream",
            ),
            ("169.254.169.254:80", "", "cloud_metadata"),
        ],
    );
    table(
        &engine(
            "[upstream]\nurl = \"http://meta.corp\"\n[[policy.allow]]\ncidrs = [\"169.254.169.254/32\"]\nports = [80]",
        ),
        &[
            ("meta.corp:80", "169.254.169.254", "upstream"),
            ("meta.corp:80", "100.100.100.200", "cloud_metadata"),
        ],
    );
}

#[test]
fn deny_wins_over_the_upstream() {
    let upstream = "[upstream]\nurl = \"https://app.harness.io\"\n";
    table(
        &engine(&format!(
            "{upstream}[[policy.deny]]\ncidrs = [\"10.9.0.0/16\"]"
        )),
        &[
            ("app.harness.io:443", "10.8.0.1", "upstream"),
            ("app.harness.io:443", "10.9.0.1", "deny_rule"),
            ("app.harness.io:443", "64:ff9b::10.9.0.1", "deny_rule"),
        ],
    );
    table(
        &engine(&format!(
            "{upstream}[[policy.deny]]\nhosts = [\"app.harness.io\"]"
        )),
        &[("app.harness.io:443", "", "deny_rule")],
    );
}

#[test]
fn names_match_by_label() {
    let engine = engine(
        "[[policy.allow]]\nhosts = [\"*.harness.io\", \"Example.com\", \"bücher.example\"]\nports = [443, \"8000-8100\"]",
    );
    table(
        &engine,
        &[
            ("app.harness.io:443", "34.1.2.3", "public_address"),
            ("a.b.harness.io:443", "34.1.2.3", "public_address"),
            ("harness.io:443", "", "not_allowed"),
            (".harness.io:443", "", "not_allowed"),
            ("evilharness.io:443", "", "not_allowed"),
            ("app.harness.io.evil.com:443", "", "not_allowed"),
            ("app.harness.io:80", "", "port_not_allowed"),
            ("app.harness.io:8000", "34.1.2.3", "public_address"),
            ("app.harness.io:8100", "34.1.2.3", "public_address"),
            ("app.harness.io:8101", "", "port_not_allowed"),
            ("example.com:443", "34.1.2.3", "public_address"),
            ("www.example.com:443", "", "not_allowed"),
            ("xn--bcher-kva.example:443", "34.1.2.3", "public_address"),
        ],
    );
}

#[test]
fn an_allowed_name_does_not_open_special_addresses() {
    let engine = engine("[[policy.allow]]\nhosts = [\"*\"]");
    table(
        &engine,
        &[
            ("rebind.example:443", "93.184.216.34", "public_address"),
            ("rebind.example:443", "2606:4700::1111", "public_address"),
            (
                "rebind.example:443",
                "64:ff9b::93.184.216.34",
                "public_address",
            ),
            ("rebind.example:443", "0.0.0.0", "special_address"),
            ("rebind.example:443", "10.0.0.1", "private_address"),
            ("rebind.example:443", "172.20.0.1", "private_address"),
            ("rebind.example:443", "192.168.1.1", "private_address"),
            ("rebind.example:443", "127.0.0.1", "loopback_address"),
            ("rebind.example:443", "127.0.0.53", "loopback_address"),
            ("rebind.example:443", "169.254.1.1", "link_local_address"),
            ("rebind.example:443", "169.254.169.254", "cloud_metadata"),
            ("rebind.example:443", "100.100.100.200", "cloud_metadata"),
            ("rebind.example:443", "100.64.0.1", "shared_address"),
            ("rebind.example:443", "198.18.0.1", "special_address"),
            ("rebind.example:443", "192.0.2.1", "special_address"),
            ("rebind.example:443", "224.0.0.1", "special_address"),
            ("rebind.example:443", "240.0.0.1", "special_address"),
            ("rebind.example:443", "255.255.255.255", "special_address"),
            ("rebind.example:443", "::", "special_address"),
            ("rebind.example:443", "::1", "loopback_address"),
            ("rebind.example:443", "fd00::1", "private_address"),
            ("rebind.example:443", "fe80::1", "link_local_address"),
            ("rebind.example:443", "ff02::1", "special_address"),
            ("rebind.example:443", "fd00:ec2::254", "cloud_metadata"),
            ("rebind.example:443", "::ffff:127.0.0.1", "loopback_address"),
            ("rebind.example:443", "::127.0.0.1", "loopback_address"),
            ("rebind.example:443", "64:ff9b::a9fe:a9fe", "cloud_metadata"),
            (
                "rebind.example:443",
                "64:ff9b:1::10.0.0.1",
                "private_address",
            ),
            (
                "rebind.example:443",
                "64:ff9b:1:a9fe:a9:fe00:808:808",
                "cloud_metadata",
            ),
            ("rebind.example:443", "2002:7f00:1::1", "loopback_address"),
            (
                "rebind.example:443",
                "2001:0:808:808::f5ff:fffe",
                "private_address",
            ),
            (
                "rebind.example:443",
                "2001:0:a00:1::f7f7:f7f7",
                "private_address",
            ),
            (
                "rebind.example:443",
                "2606:4700::5efe:192.168.0.1",
                "private_address",
            ),
            // A literal needs more than "any name".
            ("93.184.216.34:443", "", "not_allowed"),
            ("[2606:4700::1111]:443", "", "not_allowed"),
            ("127.0.0.1:443", "", "loopback_address"),
            // Programs disagree about these.
            ("127.1:443", "", "ambiguous_host"),
            ("2130706433:443", "", "ambiguous_host"),
            ("0x7f000001:443", "", "ambiguous_host"),
            ("1.2.3.0x4:443", "", "ambiguous_host"),
        ],
    );
    assert_eq!(
        outcome(&engine, "1password.com:443", "", None),
        (true, "allow_rule")
    );
    assert_eq!(
        outcome(&engine, "face.b00c:443", "", None),
        (true, "allow_rule")
    );
}

#[test]
fn cidrs_open_literals_and_special_addresses_on_their_ports() {
    let engine = engine(
        "[[policy.allow]]\ncidrs = [\"127.0.0.0/8\", \"::1/128\", \"::ffff:10.1.0.0/112\"]\nports = [80, \"9000-9999\"]\n\
         [[policy.allow]]\nhosts = [\"db.corp\", \"192.168.7.7\", \"[fd00::7]\"]\n\
         [[policy.deny]]\ncidrs = [\"127.0.0.53/32\"]",
    );
    table(
        &engine,
        &[
            ("127.0.0.1:80", "127.0.0.1", "allow_rule"),
            ("127.0.0.1:9500", "127.0.0.1", "allow_rule"),
            ("127.0.0.1:443", "", "port_not_allowed"),
            ("[::1]:80", "::1", "allow_rule"),
            ("[::2]:80", "", "special_address"),
            ("10.1.2.3:80", "10.1.2.3", "allow_rule"),
            ("[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1", "allow_rule"),
            (
                "[64:ff9b::127.0.0.1]:80",
                "64:ff9b::127.0.0.1",
                "allow_rule",
            ),
            ("127.0.0.53:80", "", "deny_rule"),
            ("[::ffff:127.0.0.53]:80", "", "deny_rule"),
            ("8.8.8.8:80", "", "not_allowed"),
            // An ISATAP literal is a host of its own: the address that it carries does not open it.
            ("[2606:4700::5efe:127.0.0.1]:80", "", "not_allowed"),
            // A name without a rule goes where the networks allow, and nowhere else.
            ("localhost:80", "127.0.0.1", "allow_rule"),
            ("localhost:443", "", "not_allowed"),
            ("anything.example:80", "93.184.216.34", "not_allowed"),
            ("anything.example:80", "192.168.0.1", "private_address"),
            // A rule's name does not open its private address, unless a CIDR does.
            ("db.corp:5432", "192.168.0.9", "private_address"),
            ("db.corp:5432", "93.184.216.34", "public_address"),
            ("db.corp:80", "127.0.0.1", "allow_rule"),
            ("db.corp:80", "127.0.0.53", "deny_rule"),
            // A literal among hosts opens that literal only.
            ("192.168.7.7:22", "192.168.7.7", "allow_rule"),
            (
                "[::ffff:192.168.7.7]:22",
                "::ffff:192.168.7.7",
                "allow_rule",
            ),
            ("[fd00::7]:22", "fd00::7", "allow_rule"),
            ("192.168.7.8:22", "", "private_address"),
            ("anything.example:80", "192.168.7.7", "private_address"),
        ],
    );
}

#[test]
fn deny_covers_names_literals_and_what_they_resolve_to() {
    let engine = engine(
        "[[policy.allow]]\nhosts = [\"*\"]\n[[policy.allow]]\ncidrs = [\"0.0.0.0/0\", \"::/0\"]\n\
         [[policy.deny]]\nhosts = [\"*.evil.example\", \"10.0.0.5\"]\n\
         [[policy.deny]]\nhosts = [\"*\"]\nports = [25]\n\
         [[policy.deny]]\ncidrs = [\"64:ff9b::/96\"]\nports = [993]",
    );
    table(
        &engine,
        &[
            ("a.evil.example:443", "", "deny_rule"),
            ("evil.example:443", "93.184.216.34", "allow_rule"),
            ("10.0.0.5:443", "", "deny_rule"),
            ("ok.example:443", "10.0.0.5", "deny_rule"),
            ("ok.example:443", "::ffff:10.0.0.5", "deny_rule"),
            ("ok.example:443", "10.0.0.6", "allow_rule"),
            ("ok.example:25", "", "deny_rule"),
            ("93.184.216.34:25", "", "deny_rule"),
            ("[2606:4700::1]:25", "", "deny_rule"),
            ("ok.example:993", "64:ff9b::8.8.8.8", "deny_rule"),
            ("ok.example:993", "8.8.8.8", "allow_rule"),
        ],
    );
}

#[test]
fn identities_narrow_a_rule() {
    let engine = engine(
        "[[policy.allow]]\nhosts = [\"ci.example\"]\nidentities = [\"ci\", \"ops\"]\n\
         [[policy.allow]]\nhosts = [\"open.example\"]\n\
         [[policy.allow]]\ncidrs = [\"10.0.0.0/8\"]\nidentities = [\"ops\"]\n\
         [[policy.deny]]\nhosts = [\"open.example\"]\nidentities = [\"ci\"]",
    );
    let rows: &[(&str, &str, Option<&str>, &str)] = &[
        ("ci.example:443", "", Some("ci"), "allow_rule"),
        ("ci.example:443", "", Some("ops"), "allow_rule"),
        ("ci.example:443", "", Some("CI"), "identity_not_allowed"),
        ("ci.example:443", "", None, "identity_not_allowed"),
        ("open.example:443", "", None, "allow_rule"),
        ("open.example:443", "", Some("ops"), "allow_rule"),
        ("open.example:443", "", Some("ci"), "deny_rule"),
        ("10.1.1.1:443", "", Some("ops"), "allow_rule"),
        ("10.1.1.1:443", "", Some("ci"), "identity_not_allowed"),
        ("ci.example:443", "10.1.1.1", Some("ci"), "private_address"),
        ("ci.example:443", "10.1.1.1", Some("ops"), "allow_rule"),
    ];
    for (what, address, identity, expected) in rows {
        assert_eq!(
            outcome(&engine, what, address, *identity).1,
            *expected,
            "{what} {address} {identity:?}"
        );
    }
}

#[test]
fn either_name_of_a_client_may_match() {
    let engine = engine(
        "[[policy.allow]]\nhosts = [\"ci.example\"]\nidentities = [\"spiffe://example.org/ci\", \"ops\"]\n\
         [[policy.deny]]\nhosts = [\"shut.example\"]\nidentities = [\"Client\"]\n\
         [[policy.allow]]\nhosts = [\"shut.example\"]",
    );
    let code = |what: &str, user, certificate| {
        let who = Who::either(user, certificate);
        engine.check_target(&target(what), who).reason.code()
    };
    let spiffe = Some("spiffe://example.org/ci");
    for (what, user, certificate, expected) in [
        ("ci.example:443", None, spiffe, "allow_rule"),
        ("ci.example:443", Some("ops"), None, "allow_rule"),
        ("ci.example:443", Some("ops"), Some("other"), "allow_rule"),
        ("ci.example:443", Some("other"), spiffe, "allow_rule"),
        (
            "ci.example:443",
            Some("other"),
            Some("another"),
            "identity_not_allowed",
        ),
        ("ci.example:443", None, None, "identity_not_allowed"),
        // A denied certificate is not made good by credentials, nor the other way round.
        ("shut.example:443", Some("ops"), Some("Client"), "deny_rule"),
        ("shut.example:443", Some("Client"), None, "deny_rule"),
        ("shut.example:443", Some("ops"), None, "allow_rule"),
    ] {
        assert_eq!(
            code(what, user, certificate),
            expected,
            "{what} {user:?} {certificate:?}"
        );
    }
}

/// A request in origin-form has the configured upstream for its target.
#[test]
fn a_certificate_can_be_kept_from_the_upstream() {
    let engine = engine(
        "[upstream]\nurl = \"https://app.harness.io\"\n\
         [[policy.deny]]\nhosts = [\"app.harness.io\"]\nidentities = [\"Revoked Runner\"]",
    );
    let upstream = engine.upstream().unwrap().clone();
    let address = "34.1.2.3".parse().unwrap();
    let decisions = |certificate| {
        let who = Who::either(None, certificate);
        [
            engine.check_target(&upstream, who),
            engine.check_address(&upstream, address, who),
        ]
    };
    for decision in decisions(Some("Revoked Runner")) {
        assert!(!decision.allowed);
        assert_eq!(decision.reason, Reason::DeniedHost { rule: 1 });
    }
    for certificate in [None, Some("Runner")] {
        for decision in decisions(certificate) {
            assert!(decision.allowed, "{certificate:?}");
            assert_eq!(decision.reason, Reason::Upstream);
        }
    }
}

#[test]
fn behind_a_parent_a_network_cannot_allow_a_name() {
    let engine = engine(
        "[upstream]\nurl = \"https://app.harness.io\"\n\
         [upstream.parent]\nurl = \"http://proxy.corp:3128\"\nno-proxy = [\"local.corp\"]\n\
         [[policy.allow]]\ncidrs = [\"10.0.0.0/8\"]",
    );
    table(
        &engine,
        &[
            ("app.harness.io:443", "", "upstream"),
            ("somewhere.example:443", "", "not_allowed"),
            ("db.local.corp:443", "", "address_decides"),
            ("db.local.corp:443", "10.0.0.1", "allow_rule"),
            ("10.0.0.1:443", "", "allow_rule"),
        ],
    );
}

#[test]
fn report_lets_pass_and_says_what_would_have_refused() {
    let engine = engine("[policy]\nmode = \"report\"\n[[policy.allow]]\nhosts = [\"ok.example\"]");
    let refused = engine.check_target(&target("other.example:443"), None);
    assert_eq!(
        refused,
        Decision {
            allowed: true,
            reported: true,
            reason: Reason::NotAllowed
        }
    );
    let ok = target("ok.example:443");
    assert!(!engine.check_target(&ok, None).reported);
    let private = engine.check_address(&ok, "10.0.0.1".parse().unwrap(), None);
    assert!(private.allowed && private.reported);
    assert_eq!(private.reason.code(), "private_address");
}

#[test]
fn rules_that_cannot_mean_what_they_say_are_refused() {
    let rows = [
        ("allow", "ports = [443]", "names no target"),
        ("deny", "ports = [25]", "names no target"),
        ("allow", "hosts = [\"https://a.example\"]", "no scheme"),
        ("allow", "hosts = [\"a.example:443\"]", "no port"),
        ("allow", "hosts = [\"10.0.0.0/8\"]", "belongs in `cidrs`"),
        (
            "allow",
            "hosts = [\".example.com\"]",
            "write `*.example.com`",
        ),
        ("allow", "hosts = [\"a.*.example\"]", "it is not a name"),
        ("allow", "hosts = [\"*example.com\"]", "it is not a name"),
        ("allow", "hosts = [\"\"]", "it is not a name"),
        ("allow", "hosts = [\"a..b\"]", "it is not a name"),
        (
            "allow",
            "cidrs = [\"64:ff9b::/96\"]",
            "name that IPv4 range",
        ),
        (
            "allow",
            "cidrs = [\"2002:a00::/24\"]",
            "name that IPv4 range",
        ),
    ];
    for (list, rule, expected) in rows {
        let text =
            format!("[[policy.{list}]]\nhosts = [\"fine.example\"]\n[[policy.{list}]]\n{rule}");
        let error = Engine::compile(&toml::from_str(&text).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.starts_with(&format!("policy.{list} rule 2")),
            "{rule}: {error}"
        );
    }
}

/// The forms in which an IPv4 address decides alone.
fn embeddings(v4: Ipv4Addr) -> [Ipv6Addr; 7] {
    let bits = u128::from(v4.to_bits());
    let at = |prefix: u128, shift: u32, bits: u128| Ipv6Addr::from_bits(prefix | (bits << shift));
    let not = u128::from(!v4.to_bits());
    [
        v4.to_ipv6_mapped(),
        // ::ffff:0:a.b.c.d
        at(0xffff_0000 << 32, 0, bits),
        at(0x0064_ff9b << 96, 0, bits),
        at((0x0064_ff9b_0001) << 80, 0, bits),
        at(0x2002 << 112, 80, bits),
        // Teredo, by way of the server 8.8.8.8.
        at((0x2001_0000_0808_0808) << 64, 0, not),
        at(0, 0, bits),
    ]
}

fn any_rules() -> impl Strategy<Value = String> {
    let network = (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
        let net = ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), length)
            .unwrap()
            .trunc();
        format!("\"{net}\"")
    });
    let special = prop::sample::select(vec![
        "\"10.0.0.0/8\"",
        "\"127.0.0.0/8\"",
        "\"169.254.0.0/16\"",
        "\"100.64.0.0/10\"",
    ]);
    let cidr = prop_oneof![network, special.prop_map(str::to_owned)];
    (prop::collection::vec(cidr.clone(), 0..4), prop::collection::vec(cidr, 0..3)).prop_map(|(allow, deny)| {
        format!(
            "[[policy.allow]]\nhosts = [\"*\"]\n[[policy.allow]]\nhosts = [\"x.y\"]\ncidrs = [{}]\n\
             [[policy.deny]]\nhosts = [\"x.y\"]\ncidrs = [{}]",
            allow.join(","),
            deny.join(",")
        )
    })
}

/// Any address, half of them from ranges where something is decided.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let near = prop::sample::select(vec![
        0x0a00_0000_u32,
        0x7f00_0000,
        0xa9fe_0000,
        0xa9fe_a900,
        0x6440_0000,
        0xc0a8_0000,
    ]);
    prop_oneof![
        any::<u32>(),
        (near, 0u32..0x1_0000).prop_map(|(base, low)| base | low)
    ]
    // As `::a.b.c.d` these two are `::` and `::1`, which are addresses of their own.
    .prop_filter("own meaning in IPv6", |bits| *bits > 1)
    .prop_map(Ipv4Addr::from_bits)
}

proptest! {
    #[test]
    fn an_embedded_ipv4_address_is_judged_as_itself(rules in any_rules(), v4 in any_v4()) {
        let engine = engine(&rules);
        let name = target("host.example:443");
        let plain = engine.check_address(&name, v4.into(), None);
        let literal = Target { host: Host::Address(v4.into()), port: 443 };
        let plain_literal = engine.check_target(&literal, None);
        for v6 in embeddings(v4) {
            // The server 8.8.8.8 of the Teredo form is denied by some of the generated rules.
            let teredo = v6.segments()[..2] == [0x2001, 0];
            if teredo && !engine.check_address(&name, "8.8.8.8".parse().unwrap(), None).allowed {
                continue;
            }
            prop_assert_eq!(engine.check_address(&name, v6.into(), None), plain, "{} as {}", v4, v6);
            let literal = Target { host: Host::Address(v6.into()), port: 443 };
            prop_assert_eq!(engine.check_target(&literal, None), plain_literal, "literal {} as {}", v4, v6);
        }
        let isatap = Ipv6Addr::from_bits((0x2606_4700_u128 << 96) | (0x5efe << 32) | u128::from(v4.to_bits()));
        prop_assert_eq!(engine.check_address(&name, isatap.into(), None).allowed, plain.allowed, "{}", isatap);
    }

    #[test]
    fn deny_beats_allow(v4 in any_v4(), length in 0u8..=32, port in 1u16.., upstream in any::<bool>()) {
        let net = ipnet::Ipv4Net::new(v4, length).unwrap().trunc();
        let upstream = if upstream { format!("[upstream]\nurl = \"http://h.example:{port}\"\n") } else { String::new() };
        let allow = "[[policy.allow]]\nhosts = [\"*\"]\ncidrs = [\"0.0.0.0/0\", \"::/0\"]\n";
        let engine = engine(&format!("{upstream}{allow}[[policy.deny]]\ncidrs = [\"{net}\"]"));
        let name = Target { host: Host::Name("h.example".into()), port };
        let mut addresses: Vec<IpAddr> = embeddings(v4).into_iter().map(IpAddr::V6).collect();
        addresses.push(v4.into());
        for address in addresses {
            prop_assert!(!engine.check_address(&name, address, None).allowed, "{}", address);
            let literal = Target { host: Host::Address(address), port };
            prop_assert!(!engine.check_target(&literal, None).allowed, "{}", address);
        }
    }
}
