//! `docs/configuration.md` against the code: its tables are generated, and the list they are generated from is compared
//! with what serde accepts, so that neither can drift from the types.

use std::fmt::Write as _;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::model;
use super::schema::{Key, Kind, TOP, Table, Value};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

#[test]
fn the_reference_is_what_the_code_says() {
    let committed = std::fs::read_to_string(DOCUMENT).unwrap();
    let current = with_tables(&committed);
    if std::env::var_os("HNP_BLESS").is_some() {
        std::fs::write(DOCUMENT, &current).unwrap();
        return;
    }
    assert!(
        committed == current,
        "docs/configuration.md is out of date: run this test with HNP_BLESS=1 and commit what it writes"
    );
}

#[test]
fn every_table_has_its_place_in_the_reference() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    for table in TOP.all() {
        assert!(
            document.contains(&start_marker(table)),
            "{}",
            start_marker(table)
        );
    }
}

/// The document with everything between its markers generated anew.
fn with_tables(document: &str) -> String {
    let mut text = document.to_owned();
    for table in TOP.all() {
        let start = start_marker(table);
        let Some(from) = text.find(&start).map(|at| at + start.len()) else {
            continue;
        };
        let to = from + text[from..].find("<!-- end -->").expect("an end marker");
        text.replace_range(from..to, &format!("\n{}", rendered(table)));
    }
    text
}

fn start_marker(table: &Table) -> String {
    format!(
        "<!-- keys of: {} -->",
        if table.path.is_empty() {
            "top level"
        } else {
            table.path
        }
    )
}

fn rendered(table: &Table) -> String {
    let mut text = format!(
        "{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
        table.text
    );
    let values = table.keys.iter().filter_map(|key| match key.kind {
        Kind::Value(value) | Kind::Required(value) => Some((key, value)),
        _ => None,
    });
    for (key, value) in values {
        let default = default_of(table, key);
        writeln!(
            text,
            "| `{}` | {} | {default} | {} |",
            key.name, value.name, key.text
        )
        .unwrap();
    }
    let tables = table.keys.iter().filter_map(|key| match key.kind {
        Kind::Table(within) => Some((format!("[{}]", within.path), within)),
        Kind::Tables(within) => Some((format!("[[{}]]", within.path), within)),
        _ => None,
    });
    for (header, within) in tables {
        let anchor = within.path.replace('.', "");
        writeln!(
            text,
            "| `{}` | table | | [`{header}`](#{anchor}) |",
            within.path.rsplit('.').next().unwrap()
        )
        .unwrap();
    }
    text
}

/// What the default configuration holds at the key, or in words what its absence means.
fn default_of(table: &Table, key: &Key) -> String {
    let defaults = match table.path {
        "policy.allow" | "policy.deny" => toml::Value::try_from(model::Rule::default()),
        _ => toml::Value::try_from(model::Config::default()),
    };
    let defaults = defaults.unwrap();
    let path = match table.path {
        "policy.allow" | "policy.deny" => key.name.to_owned(),
        _ => table.path_of(key.name),
    };
    let found = path
        .split('.')
        .try_fold(&defaults, |value, name| value.get(name));
    match found {
        Some(value) => {
            let default = format!("`{value}`");
            if key.absent.is_empty() {
                return default;
            }
            assert!(
                key.absent.starts_with(&default),
                "{path} has a default in the types and another in the list"
            );
            key.absent.to_owned()
        }
        None => {
            assert!(
                !key.absent.is_empty(),
                "{path} has no default: the list must say what its absence means"
            );
            key.absent.to_owned()
        }
    }
}

#[test]
fn the_list_of_keys_is_what_serde_accepts() {
    let accepted: [(&str, &[&str]); 18] = [
        ("", fields::<model::Config>()),
        ("listener", fields::<model::Listener>()),
        ("listener.tls", fields::<model::ListenerTls>()),
        ("endpoints", fields::<model::EndpointConfig>()),
        ("reverse-proxy", fields::<model::ReverseProxy>()),
        ("upstream", fields::<model::Upstream>()),
        ("upstream.parent", fields::<model::Parent>()),
        ("policy", fields::<model::Policy>()),
        ("policy.allow", fields::<model::Rule>()),
        ("policy.deny", fields::<model::Rule>()),
        ("auth", fields::<model::Auth>()),
        ("limits", fields::<model::Limits>()),
        ("timeouts", fields::<model::Timeouts>()),
        ("dns", fields::<model::Dns>()),
        ("admin", fields::<model::Admin>()),
        ("log", fields::<model::Log>()),
        ("intercept", fields::<model::Intercept>()),
        ("intercept.rules", fields::<model::InterceptRule>()),
    ];
    for table in TOP.all() {
        let (_, accepted) = accepted
            .iter()
            .find(|(path, _)| *path == table.path)
            .unwrap_or_else(|| panic!("no type is named here for [{}]", table.path));
        let mut listed: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        let mut accepted = accepted.to_vec();
        listed.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(listed, accepted, "[{}]", table.path);
    }
}

#[test]
fn the_choices_are_what_serde_accepts() {
    let choices = |path| super::schema::value_at(path).unwrap().choices;
    assert_eq!(choices("modes"), variants::<model::Mode>());
    assert_eq!(choices("backend"), variants::<model::Backend>());
    assert_eq!(choices("ktls"), variants::<model::Ktls>());
    assert_eq!(
        choices("listener.tls.client-auth"),
        variants::<model::ClientAuth>()
    );
    assert_eq!(
        choices("listener.tls.min-version"),
        variants::<model::TlsVersion>()
    );
    assert_eq!(
        choices("upstream.protocol"),
        variants::<model::HttpProtocol>()
    );
    assert_eq!(choices("policy.mode"), variants::<model::PolicyMode>());
    assert_eq!(choices("log.format"), variants::<model::LogFormat>());
    assert_eq!(choices("intercept.failure"), variants::<model::Failure>());
    assert_eq!(
        choices("intercept.upstream-namespace"),
        variants::<model::UpstreamNamespace>()
    );
    assert_eq!(
        choices("intercept.rules.action"),
        variants::<model::InterceptAction>()
    );
}

#[test]
fn every_default_passes_its_own_check() {
    let defaults = toml::Value::try_from(model::Config::default()).unwrap();
    let mut checked = 0;
    for table in TOP.all() {
        for key in table.keys.iter() {
            let (Kind::Value(kind) | Kind::Required(kind)) = &key.kind else {
                continue;
            };
            let path = table.path_of(key.name);
            let Some(value) = path
                .split('.')
                .try_fold(&defaults, |value, name| value.get(name))
            else {
                continue;
            };
            let wrongs = wrong_messages(kind, &value.to_string());
            assert_eq!(wrongs, Vec::<String>::new(), "{path} = {value}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn wrong_messages(kind: &'static Value, text: &str) -> Vec<String> {
    let value = toml::de::DeValue::parse(text).unwrap();
    super::document::wrongs(kind, "", &value)
        .into_iter()
        .map(|wrong| wrong.message)
        .collect()
}

/// The keys that a struct's deserializer accepts.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    assert!(T::deserialize(Probe(&mut names)).is_err());
    assert!(!names.is_empty());
    names
}

/// The texts that an enum's deserializer accepts.
fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    fields::<T>()
}

/// A deserializer that has no data: it notes what is asked for, and fails.
struct Probe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("probed"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = variants;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}
