//! Every key that the file may hold: one list that checks files, suggests spellings and writes `docs/configuration.md`.
//!
//! Serde would stop at the first mistake and name no neighbour; this list finds all of them, with places. That it says the
//! same as the types of [`model`](super::model) is what the tests beside it and in `reference` hold.

mod intercept;
mod tables;
mod values;

use super::checks::Check;

pub(super) use tables::TOP;

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// Dotted path; empty for the top level.
    pub(super) path: &'static str,
    /// What it is about.
    pub(super) text: &'static str,
    /// Its keys, in the order of the reference.
    pub(super) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the reference alone is written from `absent` and `text`"
    )
)]
pub(super) struct Key {
    /// As written in the file.
    pub(super) name: &'static str,
    /// What may stand there.
    pub(super) kind: Kind,
    /// What holds when the key is absent and the default configuration has no value for it.
    pub(super) absent: &'static str,
    /// What it does.
    pub(super) text: &'static str,
}

/// What may stand at a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A value.
    Value(&'static Value),
    /// A value without which its table is refused.
    Required(&'static Value),
    /// `[table]`.
    Table(&'static Table),
    /// `[[table]]`, any number of times.
    Tables(&'static Table),
}

/// A type of value.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the reference alone is written from `name`")
)]
pub(super) struct Value {
    /// As the reference calls it.
    pub(super) name: &'static str,
    /// What an error says it expected: with article and example.
    pub(super) expected: &'static str,
    /// The only texts allowed; empty when anything that `check` accepts is.
    pub(super) choices: &'static [&'static str],
    /// Says what is wrong with a value.
    pub(super) check: Check,
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The dotted path of the key `name` of this table.
    #[cfg(test)]
    pub(super) fn path_of(&self, name: &str) -> String {
        match self.path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// This table and those within, depth first, each before its own.
    pub(super) fn all(&'static self) -> Vec<&'static Table> {
        let within = self.keys.iter().filter_map(|key| match key.kind {
            Kind::Table(table) | Kind::Tables(table) => Some(table.all()),
            _ => None,
        });
        std::iter::once(self).chain(within.flatten()).collect()
    }
}

/// The value's type at a dotted path without indices, such as `upstream.url`.
pub(super) fn value_at(path: &str) -> Option<&'static Value> {
    let mut table = &TOP;
    for name in path.split('.') {
        match table.key(name)?.kind {
            Kind::Value(value) | Kind::Required(value) => return Some(value),
            Kind::Table(within) | Kind::Tables(within) => table = within,
        }
    }
    None
}

const fn key(
    name: &'static str,
    value: &'static Value,
    absent: &'static str,
    text: &'static str,
) -> Key {
    let kind = Kind::Value(value);
    Key {
        name,
        kind,
        absent,
        text,
    }
}

const fn table(name: &'static str, table: &'static Table) -> Key {
    let kind = Kind::Table(table);
    Key {
        name,
        kind,
        absent: "",
        text: table.text,
    }
}
