//! Malformed and hostile request heads, each with the status it earns, whole and split at every byte.

#[path = "hostile_heads/cases.rs"]
mod cases;
#[path = "hostile_heads/targets.rs"]
mod targets;

use cases::{Case, cases};
use hnp_dataplane::http::head::{HeadError, RequestParser};
use hnp_dataplane::http::{Answer, HeadLimits};

/// What the parser and the check for a proxy say of the head: the status, or `None` while it is not complete.
fn verdict(parser: &mut RequestParser, bytes: &[u8]) -> Option<Result<(), HeadError>> {
    match parser.parse(bytes, &HeadLimits::default()) {
        Ok(None) => None,
        Ok(Some((head, _))) => Some(head.proxy_target().map(drop)),
        Err(error) => Some(Err(error)),
    }
}

#[test]
fn there_are_enough_of_them_and_none_twice() {
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}

#[test]
fn each_whole_head_earns_its_status() {
    let mut wrong = Vec::new();
    for Case { name, head, status } in cases() {
        let got = match verdict(&mut RequestParser::new(), &head) {
            None => 408,
            Some(Ok(())) => 200,
            Some(Err(error)) => error.status(),
        };
        if got != status {
            wrong.push(format!("{name}: {got} instead of {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn splitting_at_every_byte_changes_nothing() {
    for Case { name, head, .. } in cases() {
        let whole = verdict(&mut RequestParser::new(), &head);
        let mut parser = RequestParser::new();
        let split = (1..=head.len()).find_map(|arrived| verdict(&mut parser, &head[..arrived]));
        assert_eq!(split, whole, "{name}");
    }
}

#[test]
fn each_answer_is_one_clean_response() {
    for Case { name, head, .. } in cases() {
        let Some(Err(error)) = verdict(&mut RequestParser::new(), &head) else {
            continue;
        };
        let answer = String::from_utf8(Answer::from(error.clone()).to_bytes()).expect(name);
        let (fields, body) = answer.split_once("\r\n\r\n").expect(name);
        assert!(
            fields.starts_with(&format!("HTTP/1.1 {} ", error.status())),
            "{name}: {fields}"
        );
        assert!(
            fields.contains("\r\nProxy-Status: hnp; error=http_request_error; details=\""),
            "{name}: {fields}"
        );
        assert!(fields.contains("\r\nConnection: close"), "{name}: {fields}");
        assert!(
            fields.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{name}: {fields}"
        );
        assert_eq!(body.matches('\n').count(), 1, "{name}: {body}");
        assert!(body.contains("at fault: client"), "{name}: {body}");
        let shown = answer.replace("\r\n", "");
        assert!(
            shown
                .bytes()
                .all(|b| b == b'\n' || (0x20..0x7f).contains(&b)),
            "{name}: {answer:?}"
        );
        assert!(
            !answer.contains("SECRET"),
            "{name}: a query or a credential is shown: {answer}"
        );
    }
}
