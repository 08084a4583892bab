//! Contradictions of transparent interception.

use super::Findings;
use crate::config::model::{Config, InterceptAction, InterceptRule};
use crate::intercept::Rules;

pub(super) fn find(config: &Config, findings: &mut Findings) {
    let Some(intercept) = &config.intercept else {
        return;
    };
    for (index, rule) in intercept.rules.iter().enumerate() {
        needs(config, rule, index, findings);
        let last = index + 1 == intercept.rules.len();
        if !last && rule.hosts.is_empty() && rule.cidrs.is_empty() && rule.ports.is_empty() {
            findings.warning(
                format!("intercept.rules[{index}]"),
                format!("`intercept.rules[{index}]` matches every connection: no rule behind it is ever reached"),
                "give it `hosts`, `cidrs` or `ports`, or move it to the end",
            );
        }
    }
    if let Err(error) = Rules::compile(intercept) {
        findings.error(
            error.key(),
            error.to_string(),
            "change or remove what it names",
        );
    }
}

/// What a rule's action cannot do without.
fn needs(config: &Config, rule: &InterceptRule, index: usize, findings: &mut Findings) {
    let key = format!("intercept.rules[{index}].action");
    let upstream = config.upstream.as_ref();
    match rule.action {
        InterceptAction::Tunnel if upstream.is_none_or(|upstream| upstream.parent.is_none()) => {
            findings.error(
                &key,
                format!("`{key}` is `tunnel`, and there is no parent proxy to tunnel through"),
                "set `url` in [upstream.parent], or use another action",
            );
        }
        InterceptAction::Mtls if upstream.is_none() => {
            findings.error(
                &key,
                format!("`{key}` is `mtls`, and there is no manager to send requests to"),
                "set `url` in [upstream], or use another action",
            );
        }
        _ => {}
    }
}
