//! What was found, as people and machines read it.

use std::fmt::Write as _;

use serde::Serialize;

/// How things stand with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be; or told for information only.
    Ok,
    /// HNP serves, but less, slower or not for long.
    Warning,
    /// HNP does not serve what is configured.
    Failure,
}

impl Status {
    /// Its sign and the colour of that, as a terminal takes it (ECMA-48).
    fn sign(self) -> (char, &'static str) {
        match self {
            Status::Ok => ('✓', "\u{1b}[32m"),
            Status::Warning => ('!', "\u{1b}[33m"),
            Status::Failure => ('✗', "\u{1b}[31m"),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    /// What it belongs to.
    pub(super) group: &'static str,
    /// What it is; together with the group it says the same thing in every version. Several items may share it, such as one for each
    /// listener.
    pub(super) name: &'static str,
    pub(super) status: Status,
    /// What was found, or the cause of what is wrong.
    pub(super) detail: String,
    /// What to do; there is one unless all is well.
    pub(super) remedy: Option<String>,
}

/// The items of one group, as they are found.
pub(super) struct Group {
    name: &'static str,
    pub(super) items: Vec<Item>,
}

impl Group {
    pub(super) fn new(name: &'static str) -> Self {
        let items = Vec::new();
        Self { name, items }
    }

    pub(super) fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Status::Ok, detail.into(), None);
    }

    pub(super) fn warn(
        &mut self,
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(name, Status::Warning, detail.into(), Some(remedy.into()));
    }

    pub(super) fn fail(
        &mut self,
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(name, Status::Failure, detail.into(), Some(remedy.into()));
    }

    /// Something that interception alone needs: a failure where it is wanted.
    pub(super) fn lacks(
        &mut self,
        intercept: bool,
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        match intercept {
            true => self.fail(name, detail, remedy),
            false => {
                let detail = format!("{} (needed for interception only)", detail.into());
                self.warn(name, detail, remedy);
            }
        }
    }

    fn add(&mut self, name: &'static str, status: Status, detail: String, remedy: Option<String>) {
        self.items.push(Item {
            group: self.name,
            name,
            status,
            detail: one_line(&detail),
            remedy: remedy.map(|remedy| one_line(&remedy)),
        });
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Report {
    pub(super) items: Vec<Item>,
}

impl Report {
    /// Whether something has failed.
    pub(crate) fn failed(&self) -> bool {
        self.count(Status::Failure) > 0
    }

    fn count(&self, status: Status) -> usize {
        let with = self.items.iter().filter(|item| item.status == status);
        with.count()
    }

    /// The report for people; with colours if a terminal is to show it.
    pub(crate) fn text(&self, colours: bool) -> String {
        let paint = |colour, text: &str| match colours {
            true => format!("{colour}{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let width = self.items.iter().map(|item| item.name.len()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        let mut group = "";
        for item in &self.items {
            if item.group != group {
                group = item.group;
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{}", paint("\u{1b}[1m", group));
            }
            let (sign, colour) = item.status.sign();
            let sign = paint(colour, &sign.to_string());
            let _ = writeln!(text, "  {sign} {:width$}  {}", item.name, item.detail);
            if let Some(remedy) = &item.remedy {
                let _ = writeln!(text, "    {:width$}  → {remedy}", "");
            }
        }
        let count = |status, one: &str| match self.count(status) {
            1 => format!("1 {one}"),
            n => format!("{n} {one}s"),
        };
        let _ = writeln!(
            text,
            "\n{} ok, {}, {}",
            self.count(Status::Ok),
            count(Status::Warning, "warning"),
            count(Status::Failure, "failure")
        );
        text
    }
}

/// What others have written may be of several lines, and may try to steer a terminal.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut kernel = Group::new("kernel");
        kernel.ok("version", "Linux 6.1");
        kernel.lacks(false, "bpffs", "none\nthere", "mount one");
        kernel.lacks(true, "cgroup2", "none \u{1b}[2J", "mount it");
        Report {
            items: kernel.items,
        }
    }

    #[test]
    fn people_see_causes_and_remedies_in_groups() {
        assert_eq!(
            report().text(false),
            "kernel\n  \
             ✓ version  Linux 6.1\n  \
             ! bpffs    none there (needed for interception only)\n             → mount one\n  \
             ✗ cgroup2  none \u{fffd}[2J\n             → mount it\n\n\
             1 ok, 1 warning, 1 failure\n"
        );
        assert!(report().failed());
    }

    #[test]
    fn a_terminal_gets_colours() {
        let text = report().text(true);
        assert!(text.contains("\u{1b}[31m✗\u{1b}[0m cgroup2"), "{text}");
        assert!(!report().text(false).contains('\u{1b}'));
    }

    #[test]
    fn machines_get_a_list() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(
            json[1],
            serde_json::json!({
                "group": "kernel",
                "name": "bpffs",
                "status": "warning",
                "detail": "none there (needed for interception only)",
                "remedy": "mount one",
            })
        );
        assert!(json[0]["remedy"].is_null());
    }
}
