//! A file's text against the list of keys: every mistake, and the place of every value.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::checks::Problem;
use super::diagnostic::{Diagnostic, Place, Severity, mask_passwords};
use super::schema::{self, Kind, Table, Value};

/// A file that has been read.
#[derive(Debug)]
pub(super) struct Document<'s> {
    file: &'s Path,
    text: &'s str,
    /// The byte range of each table's header and each value, by dotted path.
    spans: BTreeMap<String, Range<usize>>,
    /// What is wrong with the file by itself.
    pub(super) mistakes: Vec<Diagnostic>,
}

impl<'s> Document<'s> {
    /// Reads `text`, the contents of `file`.
    pub(super) fn parse(file: &'s Path, text: &'s str) -> Document<'s> {
        let mut document = Document {
            file,
            text,
            spans: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        let (top, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            document.not_toml(&error);
        }
        // A table that could not be parsed whole says nothing reliable about its keys.
        if document.mistakes.is_empty() {
            document.table(&schema::TOP, "", top.get_ref());
        }
        document
    }

    /// The table of values, to be laid under environment and flags.
    pub(super) fn values(&self) -> Result<toml::Table, Box<Diagnostic>> {
        toml::from_str(self.text).map_err(|error: toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            Box::new(self.mistake(span, "", error.message().to_owned(), None))
        })
    }

    /// Whether the file sets this value, or something in this table.
    pub(super) fn sets(&self, path: &str) -> bool {
        self.spans.contains_key(path)
    }

    /// The paths of all values and tables.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.spans.keys().map(String::as_str)
    }

    /// The string at a path, if there is one.
    pub(super) fn text_at(&self, path: &str) -> Option<String> {
        let text = self.text.get(self.spans.get(path)?.clone())?;
        let value = DeValue::parse(text).ok()?;
        value.get_ref().as_str().map(str::to_owned)
    }

    /// Where a value stands, or the table it would stand in.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return Some(Place::in_file(self.file, self.text, span.clone()));
            }
            let end = path.rfind(['.', '['])?;
            path = &path[..end];
        }
    }

    fn table(&mut self, schema: &'static Table, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = join(path, name.get_ref());
            let Some(known) = schema.key(name.get_ref()) else {
                self.unknown(schema, &key, name);
                continue;
            };
            match known.kind {
                Kind::Value(kind) | Kind::Required(kind) => self.value(kind, &key, value),
                Kind::Table(within) => match value.get_ref() {
                    DeValue::Table(table) => {
                        self.spans.insert(key.clone(), name.span());
                        self.table(within, &key, table);
                    }
                    _ => {
                        let message = format!("`{key}` is a table, not {}", found(value.get_ref()));
                        self.add(
                            value.span(),
                            &key,
                            message,
                            Some(format!("write `[{key}]`")),
                        );
                    }
                },
                Kind::Tables(within) => match value.get_ref() {
                    DeValue::Array(list) => self.tables(within, &key, list),
                    other => {
                        let message = format!("`{key}` is a list of tables, not {}", found(other));
                        self.add(
                            name.span(),
                            &key,
                            message,
                            Some(format!("write `[[{key}]]`")),
                        );
                    }
                },
            }
        }
    }

    fn tables(&mut self, schema: &'static Table, path: &str, list: &DeArray<'_>) {
        for (index, element) in list.iter().enumerate() {
            let key = format!("{path}[{index}]");
            match element.get_ref() {
                DeValue::Table(table) => {
                    self.spans.insert(key.clone(), element.span());
                    self.table(schema, &key, table);
                }
                other => {
                    let message = format!("`{key}` is a table, not {}", found(other));
                    self.add(
                        element.span(),
                        &key,
                        message,
                        Some(format!("write `[[{path}]]`")),
                    );
                }
            }
        }
    }

    fn value(&mut self, kind: &'static Value, key: &str, value: &Spanned<DeValue<'_>>) {
        self.spans.insert(key.to_owned(), value.span());
        for (index, element) in value.get_ref().as_array().into_iter().flatten().enumerate() {
            self.spans.insert(format!("{key}[{index}]"), element.span());
        }
        for wrong in wrongs(kind, key, value) {
            self.add(wrong.span, &wrong.key, wrong.message, Some(wrong.help));
        }
    }

    fn unknown(
        &mut self,
        schema: &'static Table,
        key: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
    ) {
        let table = match schema.path {
            "" => "at the top level".to_owned(),
            path => format!("in [{path}]"),
        };
        let message = format!(
            "unknown key `{key}`: there is no `{}` {table}",
            name.get_ref()
        );
        self.add(
            name.span(),
            key,
            message,
            Some(suggestion(schema, name.get_ref())),
        );
    }

    fn not_toml(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let message = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        self.add(span, "", message, None);
    }

    fn add(&mut self, span: Range<usize>, key: &str, message: String, help: Option<String>) {
        let mistake = self.mistake(span, key, message, help);
        self.mistakes.push(mistake);
    }

    fn mistake(
        &self,
        span: Range<usize>,
        key: &str,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            key: key.to_owned(),
            message: mask_passwords(&message),
            help: help.map(|help| mask_passwords(&help)),
            place: Place::in_file(self.file, self.text, span),
        }
    }
}

/// Something wrong with a value, in full sentences.
pub(super) struct Wrong {
    pub(super) span: Range<usize>,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: String,
}

/// All that is wrong with the value at `key`.
pub(super) fn wrongs(kind: &'static Value, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<Wrong> {
    let mut problems = Vec::new();
    if kind.choices.is_empty() {
        (kind.check)(value, &mut problems);
    } else {
        not_chosen(kind, value, &mut problems);
        if problems.is_empty() {
            (kind.check)(value, &mut problems);
        }
    }
    let in_words = |problem: Problem| {
        let element = problem.index.and_then(|index| value.get_ref().get(index));
        let key = match problem.index {
            Some(index) => format!("{key}[{index}]"),
            None => key.to_owned(),
        };
        let message = match problem.message.as_str() {
            "" => format!(
                "expected {}, found {}",
                kind.expected,
                found(element.unwrap_or(value).get_ref())
            ),
            message => message.to_owned(),
        };
        let help = problem
            .help
            .unwrap_or_else(|| format!("expected {}", kind.expected));
        Wrong {
            span: problem.span,
            message: format!("`{key}`: {message}"),
            key,
            help,
        }
    };
    problems.into_iter().map(in_words).collect()
}

/// The strings, alone or in a list, that are none of the choices.
fn not_chosen(kind: &'static Value, value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    let elements: Vec<(Option<usize>, &Spanned<DeValue<'_>>)> = match value.get_ref() {
        DeValue::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, element)| (Some(index), element))
            .collect(),
        _ => vec![(None, value)],
    };
    for (index, element) in elements {
        let Some(text) = element.get_ref().as_str() else {
            continue;
        };
        if !kind.choices.contains(&text) {
            problems.push(Problem {
                span: element.span(),
                index,
                message: format!("`{text}` is none of {}", quoted(kind.choices)),
                help: nearest(text, kind.choices.iter().copied())
                    .map(|near| format!("did you mean `{near}`?")),
            });
        }
    }
}

/// What to write instead of a key that is not in this table.
fn suggestion(table: &'static Table, name: &str) -> String {
    if let Some(near) = nearest(name, table.keys.iter().map(|key| key.name)) {
        return format!("did you mean `{near}`?");
    }
    let elsewhere = |other: &&Table| other.keys.iter().any(|key| key.name == name);
    if let Some(other) = schema::TOP.all().into_iter().find(elsewhere) {
        return match other.path {
            "" => format!("`{name}` belongs to the top level, above the first table"),
            path => format!("`{name}` belongs to [{path}]"),
        };
    }
    let keys: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
    format!("the keys here are {}", quoted(&keys))
}

/// The candidate that `name` is probably a misspelling of.
fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let name = name.to_lowercase().replace('_', "-");
    let distance =
        |candidate: &str| strsim::damerau_levenshtein(&name, &candidate.replace('_', "-"));
    // A third of the letters wrong is a misspelling, more is another word. What has or lacks an ending is meant, too.
    let near = |candidate: &&str| {
        let starts_alike = candidate.starts_with(&name) || name.starts_with(candidate);
        distance(candidate) * 3 <= name.len().max(3) || (name.len() > 3 && starts_alike)
    };
    candidates
        .filter(near)
        .min_by_key(|candidate| distance(candidate))
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// A value in the words of an error; never a long one's text.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 80 => format!("the string \"{text}\""),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}
