use proptest::prelude::*;

use super::*;

fn render(format: LogFormat, write: impl FnOnce(&mut Line<'_>)) -> String {
    let mut buffer = Vec::new();
    let mut line = Line::begin(&mut buffer, format);
    write(&mut line);
    line.end();
    String::from_utf8(buffer).unwrap()
}

/// A reader of `key=value` lines written from their description, not from the writer: words between spaces, values bare or
/// in quotes, escapes as in JSON.
pub(in crate::access_log) fn parse_text(line: &str) -> Vec<(String, String)> {
    let mut rest = line.strip_suffix('\n').expect("ends in a newline");
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').expect("key=value");
        assert!(
            key.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b)),
            "key {key:?} in {line:?}"
        );
        let value;
        if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            value = values.next().unwrap().unwrap();
            rest = &after[values.byte_offset()..];
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            value = after[..end].to_owned();
            rest = &after[end..];
        }
        pairs.push((key.to_owned(), value));
        rest = if rest.is_empty() {
            rest
        } else {
            rest.strip_prefix(' ').expect("a space between words")
        };
    }
    pairs
}

#[test]
fn text_is_bare_where_it_can_be() {
    let line = render(LogFormat::Text, |line| {
        line.number("n", 0);
        line.string("plain", "/a/b:c?");
        line.string("space", "a b");
        line.string("empty", "");
        line.string("forged", "x closed_by=hnp");
        line.milliseconds("ms", Duration::from_micros(12_034));
        line.address("v4", "127.0.0.1:80".parse().unwrap());
        line.address("v6", "[::1]:65535".parse().unwrap());
        line.literal("yes", true);
    });
    assert_eq!(
        line,
        "n=0 plain=/a/b:c? space=\"a b\" empty=\"\" forged=\"x closed_by=hnp\" ms=12.034 v4=127.0.0.1:80 v6=[::1]:65535 yes=true\n"
    );
}

#[test]
fn what_acts_on_a_terminal_is_escaped() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let line = render(format, |line| {
            line.string(
                "v",
                "\u{1b}[2J\u{9b}A\u{7f}\u{202e}txt\u{2028}\u{feff}\u{e0041}\0\r\n\t\"\\ü",
            );
        });
        let value = r#""\u001b[2J\u009bA\u007f\u202etxt\u2028\ufeff\udb40\udc41\u0000\r\n\t\"\\ü""#;
        let expected = match format {
            LogFormat::Text => format!("v={value}\n"),
            LogFormat::Json => format!("{{\"v\":{value}}}\n"),
        };
        assert_eq!(line, expected);
    }
}

#[test]
fn a_long_value_is_cut_between_characters() {
    let value = "ü".repeat(VALUE_LIMIT);
    let line = render(LogFormat::Text, |line| line.string("v", &value));
    assert_eq!(line, format!("v=\"{}...\"\n", "ü".repeat(VALUE_LIMIT / 2)));
    let value = "x".repeat(VALUE_LIMIT);
    let line = render(LogFormat::Text, |line| line.display("v", &value));
    assert_eq!(line, format!("v={value}\n"), "exactly the limit is not cut");
    let line = render(LogFormat::Json, |line| {
        line.display("v", &format!("{value}y"))
    });
    assert_eq!(
        line,
        format!("{{\"v\":\"{value}...\"}}\n"),
        "a displayed value is cut as well"
    );
}

proptest! {
    #[test]
    fn values_come_back_and_stay_in_their_line(a in any::<String>(), b in any::<String>(), n in any::<u64>(), us in any::<u64>()) {
        let write = |line: &mut Line<'_>| {
            line.string("a", &a);
            line.display("b", &b);
            line.number("n", n);
            line.milliseconds("ms", Duration::from_micros(us));
        };
        let expected = [
            ("a", a.clone()), ("b", b.clone()), ("n", n.to_string()), ("ms", format!("{}.{:03}", us / 1000, us % 1000)),
        ].map(|(key, value)| (key.to_owned(), value));

        let text = render(LogFormat::Text, write);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
        prop_assert_eq!(parse_text(&text), expected.to_vec());

        let json = render(LogFormat::Json, write);
        prop_assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["a"].as_str(), Some(a.as_str()));
        prop_assert_eq!(value["b"].as_str(), Some(b.as_str()));
        prop_assert_eq!(value["n"].as_u64(), Some(n));
        prop_assert!(value["ms"].is_number());
    }
}
