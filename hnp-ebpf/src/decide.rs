//! What becomes of a `connect()`, for both families.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_netns_cookie, bpf_set_retval},
    },
    maps::lpm_trie::Key,
    programs::SockAddrContext,
};
use hnp_common::{
    Action, Address, Capture, Counter, Destination, EventKind, MAX_SEGMENTS, Policy, RuleKey,
    Segment, flags,
};

use crate::{
    context, listener, maps,
    report::{self, Facts},
};

/// What the hook has to do.
pub(crate) enum Decision {
    Pass,
    Refuse,
    /// Rewrite to the listener on this port.
    Redirect(u16),
}

const QUIC: u16 = 443;
const ECONNREFUSED: i32 = 111;

/// Decides about the `connect()` to `address`.
#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, address: Address) -> Decision {
    let Some(policy) = maps::policy() else {
        return Decision::Pass;
    };
    if !context::is_tcp(ctx) {
        return if context::is_udp(ctx) && quic_is_denied(ctx, policy, address) {
            Decision::Refuse
        } else {
            Decision::Pass
        };
    }
    // The socket's earlier attempt, if it had one, counts no more.
    if !is_redirected(ctx, address) {
        forget(ctx);
    }
    if address.is_local() || address.is_link_local6() {
        maps::count(policy.pod, Counter::Bypassed);
        return Decision::Pass;
    }
    let port = context::port(ctx);
    let Some(rule) = rule(policy, address, port) else {
        maps::count(policy.pod, Counter::NoRules);
        return without_hnp(ctx, policy, address, port, 0);
    };
    if rule.action == Action::Relay as u8 {
        relay(ctx, policy, address, port, rule.rule)
    } else if rule.action == Action::Deny as u8 {
        maps::count(policy.pod, Counter::Denied);
        decided(ctx, policy, address, port, rule.rule, EventKind::Denied);
        refuse()
    } else if rule.action == Action::Direct as u8 {
        maps::count(policy.pod, Counter::Direct);
        // Without memory the connection is not observed, and passes all the same.
        capture(ctx, policy, address, port, rule.rule, Action::Direct);
        decided(ctx, policy, address, port, rule.rule, EventKind::Direct);
        Decision::Pass
    } else {
        maps::count(policy.pod, Counter::Bypassed);
        Decision::Pass
    }
}

/// Whether a datagram to `address`, and the port in the context, is QUIC that the policy refuses.
#[inline(always)]
pub(crate) fn quic_is_denied(ctx: &SockAddrContext, policy: &Policy, address: Address) -> bool {
    let port = context::port(ctx);
    if policy.flags & flags::DENY_QUIC == 0 || port != QUIC || address.is_local() {
        return false;
    }
    let Some(rule) = rule(policy, address, port) else {
        return false;
    };
    if rule.action != Action::Relay as u8 && rule.action != Action::Deny as u8 {
        return false;
    }
    maps::count(policy.pod, Counter::QuicDenied);
    decided(ctx, policy, address, port, rule.rule, EventKind::QuicDenied);
    true
}

#[inline(always)]
fn relay(
    ctx: &SockAddrContext,
    policy: &Policy,
    address: Address,
    port: u16,
    rule: u32,
) -> Decision {
    // SAFETY: the socket of the call, which is there as long as the call.
    if unsafe { (*context::socket(ctx)).bound_dev_if } != 0 {
        maps::count(policy.pod, Counter::Bound);
        if policy.flags & flags::DENY_BOUND != 0 {
            decided(ctx, policy, address, port, rule, EventKind::FailedClosed);
            return refuse();
        }
        capture(ctx, policy, address, port, rule, Action::Direct);
        decided(ctx, policy, address, port, rule, EventKind::FailedOpen);
        return Decision::Pass;
    }
    let v4 = address.is_v4();
    let listener = if v4 { policy.port4 } else { policy.port6 };
    if !listener::is_alive() || !listener::is_there(ctx, v4, listener) {
        return without_hnp(ctx, policy, address, port, rule);
    }
    if !capture(ctx, policy, address, port, rule, Action::Relay) {
        maps::count(policy.pod, Counter::NoMemory);
        return without_hnp(ctx, policy, address, port, rule);
    }
    maps::count(policy.pod, Counter::Relayed);
    decided(ctx, policy, address, port, rule, EventKind::Relayed);
    Decision::Redirect(listener)
}

/// HNP cannot have this connection: fail open or closed.
#[inline(always)]
fn without_hnp(
    ctx: &SockAddrContext,
    policy: &Policy,
    address: Address,
    port: u16,
    rule: u32,
) -> Decision {
    if policy.flags & flags::FAIL_OPEN != 0 {
        maps::count(policy.pod, Counter::FailedOpen);
        capture(ctx, policy, address, port, rule, Action::Direct);
        decided(ctx, policy, address, port, rule, EventKind::FailedOpen);
        Decision::Pass
    } else {
        maps::count(policy.pod, Counter::FailedClosed);
        decided(ctx, policy, address, port, rule, EventKind::FailedClosed);
        refuse()
    }
}

/// The segment of the policy's rules that `address` and `port` fall into.
#[inline(always)]
fn rule(policy: &Policy, address: Address, port: u16) -> Option<Segment> {
    let key = RuleKey {
        rules: policy.rules,
        address,
    };
    let segments = maps::RULES.get(Key::new(8 * size_of::<RuleKey>() as u32, key))?;
    let mut found = segments.items[0];
    let mut n = 1;
    while n < MAX_SEGMENTS {
        let segment = &segments.items[n];
        if n as u32 >= segments.len || segment.first > port {
            break;
        }
        found = *segment;
        n += 1;
    }
    Some(found)
}

/// Notes in the socket what is done with it; `false` if the kernel has no memory for that.
#[inline(always)]
fn capture(
    ctx: &SockAddrContext,
    policy: &Policy,
    address: Address,
    port: u16,
    rule: u32,
    action: Action,
) -> bool {
    let v4 = address.is_v4();
    let mut capture = Capture {
        destination: Destination {
            // SAFETY: takes nothing.
            time: unsafe { bpf_ktime_get_ns() },
            address,
            port: u32::from(port),
            pod: policy.pod,
            rule,
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            comm: bpf_get_current_comm().unwrap_or_default(),
        },
        source: if v4 { policy.source4 } else { policy.source6 },
        action: action as u32,
        flags: policy.flags,
        progress: 0,
        listener: match action {
            Action::Relay if v4 => u32::from(policy.port4),
            Action::Relay => u32::from(policy.port6),
            _ => 0,
        },
    };
    // SAFETY: the call's socket; forgotten before, so this makes a new entry with the value given.
    !unsafe { maps::SOCKETS.get_or_insert_ptr_mut(ctx, Some(&mut capture)) }.is_null()
}

/// Whether this call was redirected already, by the same programs attached to a cgroup below this one's.
#[inline(always)]
fn is_redirected(ctx: &SockAddrContext, address: Address) -> bool {
    if !address.is_local() {
        return false;
    }
    // SAFETY: the call's socket; its entry lives as long as it.
    let capture = unsafe { maps::SOCKETS.get_ptr_mut(ctx).as_ref() };
    capture.is_some_and(|capture| capture.listener == u32::from(context::port(ctx)))
}

#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // SAFETY: the call's socket. Most have no entry, which the kernel says by an error.
    let _ = unsafe { maps::SOCKETS.delete(context::socket(ctx)) };
}

/// `ECONNREFUSED`, for which every client is prepared, or `EPERM` where the kernel knows no other.
#[inline(always)]
fn refuse() -> Decision {
    if maps::has_set_retval() {
        // SAFETY: takes a number.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    Decision::Refuse
}

#[inline(always)]
fn decided(
    ctx: &SockAddrContext,
    policy: &Policy,
    address: Address,
    port: u16,
    rule: u32,
    kind: EventKind,
) {
    let wanted = match kind {
        EventKind::Relayed | EventKind::Direct | EventKind::FailedOpen => flags::REPORT_BEGINNINGS,
        _ => flags::REPORT_REFUSALS,
    };
    if policy.flags & wanted == 0 {
        return;
    }
    report::submit(
        kind,
        &Facts {
            // SAFETY: takes nothing; takes the context.
            time: unsafe { bpf_ktime_get_ns() },
            // SAFETY: as above.
            netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
            source: Address::UNSPECIFIED,
            source_port: 0,
            destination: address,
            destination_port: port,
            pod: policy.pod,
            rule,
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            comm: bpf_get_current_comm().unwrap_or_default(),
            duration: 0,
            sent: 0,
            received: 0,
        },
    );
}
