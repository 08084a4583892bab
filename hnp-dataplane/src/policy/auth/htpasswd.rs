//! The file of `user:hash` lines: bcrypt, as `htpasswd -B` writes it, and argon2 in PHC form.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier};

/// 2 to this is the number of rounds: a higher cost takes seconds for each log-in.
const MOST_BCRYPT_COST: u32 = 16;

/// KiB of memory for one log-in.
const MOST_ARGON2_MEMORY: u32 = 256 << 10;

/// Passes over that memory.
const MOST_ARGON2_PASSES: u32 = 16;

/// Who may log in. Hashes are not printed.
pub(super) struct Users {
    list: Vec<(Arc<str>, Hash)>,
    by_name: HashMap<Arc<str>, usize>,
    decoys: RandomState,
}

enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

/// A line that is not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineError {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong and what to do. Never the hash.
    pub(super) problem: String,
}

impl Users {
    /// Reads a file's text. Empty lines and those that begin with `#` are skipped.
    pub(super) fn parse(text: &[u8]) -> Result<Users, LineError> {
        let mut users = Users {
            list: Vec::new(),
            by_name: HashMap::new(),
            decoys: RandomState::new(),
        };
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let error = |problem: String| LineError {
                line: index + 1,
                problem,
            };
            let line = std::str::from_utf8(line)
                .map_err(|_| error("it is not UTF-8".to_owned()))?
                .trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line
                .split_once(':')
                .ok_or_else(|| error("it has no colon: write `user:hash`".to_owned()))?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(error(
                    "its user name is empty or has a control character".to_owned(),
                ));
            }
            let hash =
                Hash::parse(hash).map_err(|problem| error(format!("user `{user}`: {problem}")))?;
            let user: Arc<str> = user.into();
            if let Some(first) = users.by_name.insert(Arc::clone(&user), users.list.len()) {
                let problem = format!("user `{}` is there twice: remove one", users.list[first].0);
                return Err(error(problem));
            }
            users.list.push((user, hash));
        }
        Ok(users)
    }

    /// The user, if the password is theirs. Slow on purpose, and as slow for a name that is not listed: then somebody
    /// else's hash is worked on, always the same one's for the same name.
    pub(super) fn verify(&self, user: &str, password: &str) -> Option<Arc<str>> {
        let known = self.by_name.get(user).copied();
        let worked_on = match known {
            Some(index) => index,
            None if self.list.is_empty() => return None,
            None => self.decoy(user),
        };
        let right = self.list[worked_on].1.verify(password);
        known
            .filter(|_| right)
            .map(|index| Arc::clone(&self.list[index].0))
    }

    fn decoy(&self, user: &str) -> usize {
        let count = self.list.len() as u64;
        usize::try_from(self.decoys.hash_one(user) % count).unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Hash, String> {
        const REMEDY: &str = "make a new one with `htpasswd -B`, or with argon2id";
        if let Some(rest) = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
        {
            let (cost, encoded) = rest.split_once('$').unwrap_or_default();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
            let cost = (cost.len() == 2)
                .then(|| cost.parse::<u32>().ok())
                .flatten()
                .filter(|cost| *cost >= 4);
            let (Some(cost), 53, true) = (cost, encoded.len(), encoded.bytes().all(plain)) else {
                return Err(format!("its bcrypt hash is damaged: {REMEDY}"));
            };
            if cost > MOST_BCRYPT_COST {
                return Err(format!(
                    "its bcrypt cost of {cost} would take seconds for each log-in: at most {MOST_BCRYPT_COST}"
                ));
            }
            return Ok(Hash::Bcrypt(text.into()));
        }
        if text.starts_with("$argon2") {
            let damaged = || format!("its argon2 hash is damaged: {REMEDY}");
            let hash = PasswordHash::new(text).map_err(|_| damaged())?;
            let params = Params::try_from(&hash).map_err(|_| damaged())?;
            let known = ["argon2id", "argon2i", "argon2d"].contains(&hash.algorithm.as_str());
            if !known || hash.salt.is_none() || hash.hash.is_none() {
                return Err(damaged());
            }
            if params.m_cost() > MOST_ARGON2_MEMORY || params.t_cost() > MOST_ARGON2_PASSES {
                return Err(format!(
                    "its argon2 parameters m={},t={} are too much for each log-in: at most m={MOST_ARGON2_MEMORY},t={MOST_ARGON2_PASSES}",
                    params.m_cost(),
                    params.t_cost()
                ));
            }
            return Ok(Hash::Argon2(text.into()));
        }
        let kind = match text {
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "an MD5 hash",
            _ if text.starts_with("{SHA}") => "an unsalted SHA-1 hash",
            _ if text.starts_with("$5$") || text.starts_with("$6$") => "a SHA-2 crypt hash",
            _ if text.starts_with("$2x$") => "a hash of the faulty bcrypt `2x`",
            "" => "nothing",
            _ => "neither a bcrypt nor an argon2 hash",
        };
        Err(format!(
            "what stands after the colon is {kind}, which HNP does not take: {REMEDY}"
        ))
    }

    fn verify(&self, password: &str) -> bool {
        match self {
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Hash::Argon2(hash) => PasswordHash::new(hash)
                .and_then(|hash| Argon2::default().verify_password(password.as_bytes(), &hash))
                .is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first from the test vectors of Openwall's crypt_blowfish (`U*U`), the second from the readme of the argon2
    /// reference implementation (`password`).
    const FILE: &str = "# people\n\nulf:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\r\n\
        arg:$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG\n";

    #[test]
    fn published_hashes_verify() {
        let users = Users::parse(FILE.as_bytes()).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users.verify("ulf", "U*U").as_deref(), Some("ulf"));
        assert_eq!(users.verify("arg", "password").as_deref(), Some("arg"));
        for (user, password) in [
            ("ulf", "U*V"),
            ("ulf", ""),
            ("arg", "U*U"),
            ("nobody", "U*U"),
            ("nobody", "password"),
        ] {
            assert_eq!(users.verify(user, password), None, "{user}");
        }
        assert_eq!(Users::parse(b"").unwrap().verify("ulf", "U*U"), None);
    }

    #[test]
    fn the_three_names_of_bcrypt_are_one() {
        let hash = bcrypt::hash("s3cret", 4).unwrap();
        for version in ["2a", "2b", "2y"] {
            let line = format!("u:${version}${}", &hash[4..]);
            assert!(
                Users::parse(line.as_bytes())
                    .unwrap()
                    .verify("u", "s3cret")
                    .is_some(),
                "{version}"
            );
        }
    }

    #[test]
    fn other_hashes_are_refused_by_line_and_without_showing_them() {
        let rows = [
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "MD5"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO/O817G3uBnIFNjnQJuesI68OTLiBFdcbYEdFCoEOfaS35inz1",
                "SHA-2",
            ),
            ("rqXexS6ZhobKA", "neither"),
            ("plain", "neither"),
            ("", "nothing"),
            (
                "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
                "2x",
            ),
            (
                "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyO",
                "damaged",
            ),
            (
                "$2y$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
                "cost of 31",
            ),
            ("$argon2id$v=19$m=65536,t=2,p=4$c29tZXNhbHQ", "damaged"),
            (
                "$argon2id$v=19$m=4194304,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG",
                "too much",
            ),
        ];
        for (hash, expected) in rows {
            let error = Users::parse(format!("# x\nann:{hash}\n").as_bytes())
                .err()
                .unwrap();
            assert_eq!(error.line, 2);
            assert!(
                error.problem.contains(expected) && error.problem.contains("`ann`"),
                "{hash}: {}",
                error.problem
            );
            assert!(
                hash.len() < 6 || !error.problem.contains(hash),
                "the hash is shown"
            );
        }
        let twice = "a:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n".repeat(2);
        for (text, line, expected) in [
            (&*twice, 2, "twice"),
            ("nocolon", 1, "no colon"),
            (":x", 1, "user name is empty"),
        ] {
            let error = Users::parse(text.as_bytes()).err().unwrap();
            assert!(
                error.line == line && error.problem.contains(expected),
                "{error:?}"
            );
        }
    }
}
