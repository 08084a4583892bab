//! The tables of transparent interception.

use super::values::*;
use super::{Key, Kind, Table, key};

pub(super) static INTERCEPT: Table = Table {
    path: "intercept",
    text: "Transparent interception of pods that `hnp intercept` names: see [interception](interception.md). Absent: nothing is intercepted. Whether it is there, `control` and `pins` are read at start; a reload changes the rest for new connections.",
    keys: &[
        key(
            "failure",
            &FAILURE,
            "`\"open\"`",
            "What a pod's connections do while HNP is away: `open` makes them directly, `closed` refuses them.",
        ),
        Key {
            name: "rules",
            kind: Kind::Tables(&RULES),
            absent: "",
            text: RULES.text,
        },
        key(
            "bypass-cidrs",
            &CIDRS,
            "`[]`",
            "Destinations that are none of HNP's business. Loopback and the pod's own addresses are so in any case.",
        ),
        key(
            "bypass-ports",
            &PORTS,
            "`[]`",
            "Ports that are none of HNP's business.",
        ),
        key(
            "deny-quic",
            &FLAG,
            "`false`",
            "Whether UDP to port 443 is refused where TCP would be relayed or denied, so that clients use TCP instead.",
        ),
        key(
            "deny-bound",
            &FLAG,
            "`false`",
            "Whether connections of sockets bound to an interface are refused. They cannot reach HNP, and are made directly otherwise.",
        ),
        key(
            "upstream-namespace",
            &UPSTREAM_NAMESPACE,
            "`\"pod\"`",
            "Where relayed connections leave from. `pod`: its network namespace, with its address and its network policies; only [[policy.deny]] is asked. `host`: HNP's own; all of [policy] is asked.",
        ),
        key(
            "detect-timeout",
            &DURATION,
            "`\"1s\"`",
            "How long a client may be silent before a connection that a rule with `hosts` could decide is decided without a name. Connections that no such rule could decide are not waited for.",
        ),
        key(
            "control",
            &FILE,
            "`\"/run/hnp/control.sock\"`",
            "The Unix socket that `hnp intercept` talks to; made at start, for root alone.",
        ),
        key(
            "pins",
            &FILE,
            "`\"/sys/fs/bpf/hnp\"`",
            "The directory, in a BPF file system, where eBPF programs are kept over restarts. Where there is no such file system, HNP mounts one.",
        ),
    ],
};

static RULES: Table = Table {
    path: "intercept.rules",
    text: "What is done with which connection: one table a rule, the first that matches decides. With no match it is relayed. A rule with neither `hosts` nor `cidrs` is about every destination.",
    keys: &[
        key(
            "hosts",
            &HOSTS,
            "`[]`",
            "Names, from the SNI of a TLS connection or the `Host` of an HTTP one. `*.example.com` is every name that ends in `.example.com`, at any depth; `*` is every name.",
        ),
        key(
            "cidrs",
            &CIDRS,
            "`[]`",
            "Networks that the destination's address may lie in.",
        ),
        key(
            "ports",
            &PORTS,
            "`[]`",
            "Ports this rule is about; empty: all.",
        ),
        Key {
            name: "action",
            kind: Kind::Required(&INTERCEPT_ACTION),
            absent: "required",
            text: "`relay`: through HNP to where it was meant to go. `tunnel`: through the parent proxy, by CONNECT. `mtls`: plaintext HTTP goes to the manager, over TLS with HNP's client certificate. `direct`: as if HNP were not there, but observed. `deny`: refused.",
        },
    ],
};
