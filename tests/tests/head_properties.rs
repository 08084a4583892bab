//! What must hold of heads and content whatever bytes come, tried on random ones.

#[path = "../../fuzz/src/oracle.rs"]
#[expect(
    unreachable_pub,
    reason = "a public module of the fuzz crate, where it lives"
)]
mod oracle;

use hnp_dataplane::http::{BodyFraming, parse_request};
use proptest::prelude::*;

/// A sound head, in one of the forms that a proxy is sent.
fn sound() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z][a-z0-9-]{0,8}[a-z0-9]\\.(test|example)",
        Just("10.0.0.1".to_owned()),
        Just("[2001:db8::1]".to_owned()),
    ];
    let framing = prop_oneof![
        Just(String::new()),
        (0..u64::MAX).prop_map(|length| format!("Content-Length: {length}\r\n")),
        Just("transfer-encoding: Chunked\r\n".to_owned()),
    ];
    let field = ("[A-Za-z]{1,3}-[A-Za-z]{1,12}", "[ -~\\t\u{e9}]{0,30}")
        .prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields = prop::collection::vec(field, 0..8).prop_map(|fields| fields.concat());
    let path = "(/[!-\"$-~]{0,20})?(\\?[!-\"$-~]{0,20})?";
    (host, 1..=u16::MAX, any::<bool>(), path, framing, fields).prop_map(|(host, port, connect, path, framing, fields)| {
        if connect {
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}\r\n")
        } else {
            format!("POST http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}\r\n{framing}{fields}\r\n")
        }
    })
}

/// A change of the kind that attacks are made of.
#[derive(Debug, Clone)]
enum Change {
    Replace(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = prop::sample::select(b"\0\t\n\r ,:;/?#@[]%*0x\x7f\x80\xff".to_vec());
    prop_oneof![
        telling.clone().prop_map(Change::Replace),
        any::<u8>().prop_map(Change::Replace),
        prop::collection::vec(telling, 1..4).prop_map(Change::Insert),
        Just(Change::Insert(b"\r\nContent-Length: 5\r\n".to_vec())),
        Just(Change::Insert(
            b"\r\nTransfer-Encoding: chunked\r\n".to_vec()
        )),
        (1..20_usize).prop_map(Change::Remove),
        (1..40_usize).prop_map(Change::Repeat),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: Vec<(prop::sample::Index, Change)>) -> Vec<u8> {
    for (at, change) in changes {
        let at = at.index(bytes.len().max(1));
        match change {
            Change::Replace(byte) => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|slot| *slot = byte),
            Change::Insert(more) => drop(bytes.splice(at..at, more)),
            Change::Remove(n) => drop(bytes.drain(at..(at + n).min(bytes.len()))),
            Change::Repeat(n) => {
                let again = bytes[at..(at + n).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), split in 0..300_usize) {
        oracle::request(&bytes, split);
        oracle::response(&bytes, split);
    }

    #[test]
    fn sound_heads_are_accepted(head in sound(), split in 0..300_usize) {
        let parsed = parse_request(head.as_bytes(), &oracle::limits());
        prop_assert!(matches!(parsed, Ok(Some((_, length))) if length == head.len()), "{parsed:?}");
        oracle::request(head.as_bytes(), split);
    }

    #[test]
    fn changed_heads(
        head in sound(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..5),
        split in 0..300_usize,
    ) {
        oracle::request(&changed(head.into_bytes(), changes), split);
    }

    #[test]
    fn changed_chunks(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
        trailer in "([A-Za-z]{1,8}: [ -~]{0,8}\r\n){0,2}",
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 0..3),
        split in 0..300_usize,
    ) {
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(format!("0\r\n{trailer}\r\n").into_bytes());
        oracle::content(BodyFraming::Chunked, &changed(bytes, changes), split);
    }

    #[test]
    fn changed_responses(
        status in 100..600_u16,
        fields in "([A-Za-z]{1,8}: [ -~]{0,8}\r\n){0,3}",
        length in 0..99_u64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 0..4),
        split in 0..300_usize,
    ) {
        let head = format!("HTTP/1.1 {status} Reason\r\nContent-Length: {length}\r\n{fields}\r\nhello, world");
        oracle::response(&changed(head.into_bytes(), changes), split);
    }
}
