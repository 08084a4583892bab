//! The hosts file: names that no server is asked for (hosts(5)).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The hosts file as it was when it last changed.
#[derive(Debug)]
pub(super) struct Hosts {
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    /// Time of change and length.
    version: (SystemTime, u64),
    table: Arc<HashMap<Box<str>, Vec<IpAddr>>>,
}

impl Hosts {
    pub(super) fn at(path: PathBuf) -> Hosts {
        Hosts {
            path,
            read: Mutex::new(None),
        }
    }

    /// The addresses of `name` (lower case, no trailing dot); empty if the file does not name it.
    ///
    /// A changed file is read again. That is a system call for each question, which comes after the cache.
    pub(super) fn find(&self, name: &str) -> Vec<IpAddr> {
        let Ok(metadata) = std::fs::metadata(&self.path) else {
            return Vec::new();
        };
        let version = (
            metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            metadata.len(),
        );
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let table = match &*read {
            Some(read) if read.version == version => Arc::clone(&read.table),
            _ => {
                let text = std::fs::read(&self.path).unwrap_or_default();
                let table = Arc::new(parse(&String::from_utf8_lossy(&text)));
                *read = Some(Read {
                    version,
                    table: Arc::clone(&table),
                });
                table
            }
        };
        table.get(name).cloned().unwrap_or_default()
    }
}

fn parse(text: &str) -> HashMap<Box<str>, Vec<IpAddr>> {
    let mut table: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        // A scoped address (`fe80::1%lo0`) cannot be dialled without its scope.
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let addresses = table.entry(name.into()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_comments() {
        let table = parse(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost # both\n# 1.1.1.1 no\n\
             10.0.0.1\tDB.corp. db\nnonsense x\nfe80::1%lo0 scoped\n10.0.0.2 db\n10.0.0.1 db",
        );
        let find = |name: &str| {
            table
                .get(name)
                .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(find("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(find("db").unwrap(), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(find("db.corp").unwrap(), ["10.0.0.1"]);
        assert_eq!((find("no"), find("x"), find("scoped")), (None, None, None));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let hosts = Hosts::at(path.clone());
        assert!(hosts.find("a").is_empty());
        std::fs::write(&path, "10.0.0.1 a\n").unwrap();
        assert_eq!(hosts.find("a").len(), 1);
        std::fs::write(&path, "10.0.0.1 a\n10.0.0.2 a\n").unwrap();
        assert_eq!(hosts.find("a").len(), 2);
    }
}
