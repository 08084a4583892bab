use super::*;
use crate::config::model::InterceptAction::{Deny, Direct, Mtls, Relay};

#[test]
fn the_first_rule_decides_by_address_port_or_name() {
    let rules = rules(
        r#"
        [[rules]]
        cidrs = ["10.0.0.0/8"]
        ports = [5432]
        action = "direct"
        [[rules]]
        hosts = ["*.example.com", "192.0.2.9"]
        action = "mtls"
        [[rules]]
        cidrs = ["192.0.2.0/24"]
        action = "deny"
        "#,
    );
    let decide = |to: &str, name| {
        let verdict = rules.decide(to.parse().unwrap(), name);
        (verdict.action, verdict.rule, verdict.by_name)
    };
    assert_eq!(decide("10.1.2.3:5432", None), (Direct, 1, false));
    assert_eq!(decide("10.1.2.3:80", None), (Relay, 0, false));
    assert_eq!(
        decide("10.1.2.3:80", Some("a.example.com")),
        (Mtls, 2, true)
    );
    assert_eq!(
        decide("10.1.2.3:80", Some("example.com")),
        (Relay, 0, false)
    );
    assert_eq!(decide("192.0.2.9:80", None), (Mtls, 2, false));
    assert_eq!(decide("[::ffff:192.0.2.8]:80", None), (Deny, 3, false));
    assert_eq!(
        decide("192.0.2.8:80", Some("b.a.example.com")),
        (Mtls, 2, true)
    );
}

#[test]
fn a_name_is_asked_for_only_where_it_can_decide() {
    let rules = rules(
        r#"
        [[rules]]
        cidrs = ["10.0.0.0/8"]
        action = "relay"
        [[rules]]
        hosts = ["a.test"]
        ports = [443]
        action = "deny"
        "#,
    );
    let needs = |to: &str| rules.needs_name(to.parse().unwrap());
    assert!(!needs("10.0.0.1:443"), "the first rule decides");
    assert!(needs("11.0.0.1:443"));
    assert!(!needs("11.0.0.1:80"), "no rule with names is on this port");
}

#[test]
fn the_kernel_never_decides_what_a_name_could() {
    let rules = rules(
        r#"
        bypass-cidrs = ["172.16.0.0/12"]
        bypass-ports = [22]
        [[rules]]
        hosts = ["a.test"]
        ports = [443]
        action = "direct"
        [[rules]]
        cidrs = ["10.0.0.0/8", "11.0.0.0/8"]
        action = "deny"
        "#,
    );
    let kernel = rules.kernel(&["10.9.9.9".parse().unwrap()]).unwrap();
    // Own address, bypassed network, bypassed ports, the name's rule, two networks.
    let numbers: Vec<u32> = (0..=7).map(|n| kernel.number(n)).collect();
    assert_eq!(numbers, [0, 0, 0, 0, 1, 2, 2, 0]);
    let expected = CompiledRules::compile(
        &[
            rule(Some("10.9.9.9/32"), None, Action::Bypass),
            rule(Some("172.16.0.0/12"), None, Action::Bypass),
            rule(None, Some(22), Action::Bypass),
            rule(None, Some(443), Action::Relay),
            rule(Some("10.0.0.0/8"), None, Action::Deny),
            rule(Some("11.0.0.0/8"), None, Action::Deny),
        ],
        Action::Relay,
    );
    assert_eq!(kernel.compiled, expected.unwrap());
}

#[test]
fn what_cannot_be_compiled_names_its_key() {
    let config = toml::from_str("[[rules]]\nhosts = [\"a_b c\"]\naction = \"deny\"").unwrap();
    let error = Rules::compile(&config).unwrap_err();
    assert_eq!(error.key(), "intercept.rules[0].hosts");
    let ports: Vec<String> = (0..40).map(|n| (n * 2 + 1).to_string()).collect();
    let many = format!(
        "[[rules]]\nports = [{}]\naction = \"deny\"",
        ports.join(",")
    );
    let error = Rules::compile(&toml::from_str(&many).unwrap()).unwrap_err();
    assert!(matches!(error, RuleError::Kernel(_)), "{error}");
}

fn rules(text: &str) -> Rules {
    Rules::compile(&toml::from_str(text).unwrap()).unwrap()
}

fn rule(network: Option<&str>, port: Option<u16>, action: Action) -> Rule {
    Rule {
        network: network.map(|network| network.parse().unwrap()),
        ports: port.map(|port| port..=port).into_iter().collect(),
        action,
    }
}
