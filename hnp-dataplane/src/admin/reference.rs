//! `docs/observability.md` against the code: its tables are generated, so that they cannot drift.

use std::fmt::Write as _;

use super::names;
use crate::access_log::FIELDS;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/observability.md");

#[test]
fn the_tables_are_what_the_code_says() {
    let committed = std::fs::read_to_string(DOCUMENT).unwrap();
    let current = with_table(&committed, "metrics", &metrics());
    let current = with_table(&current, "fields", &fields());
    if std::env::var_os("HNP_BLESS").is_some() {
        std::fs::write(DOCUMENT, &current).unwrap();
        return;
    }
    assert!(
        committed == current,
        "docs/observability.md is out of date: run this test with HNP_BLESS=1 and commit what it writes"
    );
}

#[test]
fn every_metric_that_is_mentioned_exists() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let words = document.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(|word| word.starts_with("hnp_") && *word != "hnp_dataplane") {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix));
        let exists = |name: &str| names::ALL.iter().any(|known| known.name == name);
        assert!(exists(word) || base.is_some_and(exists), "{word}");
    }
}

fn with_table(document: &str, name: &str, table: &str) -> String {
    let start = format!("<!-- {name} -->\n");
    let from = document
        .find(&start)
        .unwrap_or_else(|| panic!("no {start}"))
        + start.len();
    let to = from
        + document[from..]
            .find("<!-- end -->")
            .expect("an end marker");
    format!("{}{table}{}", &document[..from], &document[to..])
}

fn metrics() -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in names::ALL {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind) = (metric.name, metric.kind.as_str());
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {} |",
            labels.join(", "),
            metric.help
        )
        .unwrap();
    }
    table
}

fn fields() -> String {
    let mut table = String::from("| field | present | meaning |\n|---|---|---|\n");
    for field in FIELDS {
        let present = if field.always { "always" } else { "if known" };
        writeln!(table, "| `{}` | {present} | {} |", field.name, field.help).unwrap();
    }
    table
}
