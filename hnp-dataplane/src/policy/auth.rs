//! Who a client is, by proxy credentials (RFC 9110 section 11.7, RFC 7617).
//!
//! Hashes of passwords are made to be slow. They are verified on a few threads of their own, never on a worker, a bounded
//! number at once; what they found is remembered for a while, so that a client's second connection costs one SHA-256. A
//! name that is not listed costs as much time as a wrong password. Credentials are never printed, and not kept.
//!
//! A new [`Authenticator`] remembers nothing: to reload the file is to make one.

mod basic;
mod cache;
mod htpasswd;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use thiserror::Error;

use self::basic::Credentials;
use self::cache::{Cache, Found, Key, Step};
use self::htpasswd::Users;
use crate::config::model::Auth;
use crate::http::answer::Answer;
use crate::http::proxy_status::{ErrorType, Side};

/// Verifications at once, those that wait for a thread included.
const MOST_RUNNING: usize = 64;

/// The realm when none is configured.
const REALM: &str = "HNP";

/// Checks proxy credentials against a file. Shared by all workers.
pub struct Authenticator {
    realm: Arc<str>,
    most_running: usize,
    shared: Arc<Shared>,
    jobs: Sender<Job>,
}

struct Shared {
    users: Users,
    salt: [u8; 32],
    cache: Mutex<Cache>,
    verified: AtomicU64,
}

/// Credentials to be verified. Whatever becomes of it, those who wait are told.
struct Job {
    credentials: Credentials,
    key: Key,
    shared: Arc<Shared>,
    found: Option<Found>,
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum AuthError {
    /// It cannot be read.
    #[error("`auth.htpasswd` {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line of it is not understood.
    #[error("{}:{line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The system gives no random numbers or no threads.
    #[error("passwords cannot be verified: {0}")]
    System(io::Error),
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub cause: RefusedCause,
    /// For `Proxy-Authenticate: Basic realm="…"`.
    pub realm: Arc<str>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedCause {
    /// It sent no credentials.
    Missing,
    /// What it sent is not Basic credentials; what is wrong.
    Malformed(&'static str),
    /// No such user with this password.
    Wrong,
    /// Too many verifications at once.
    Busy,
}

impl Authenticator {
    /// Reads the file; `None` when none is configured. Starts the threads that verify.
    ///
    /// # Errors
    /// The file is unreadable, or a line of it is not `user:` and a bcrypt or argon2 hash.
    pub fn load(config: &Auth) -> Result<Option<Authenticator>, AuthError> {
        let Some(path) = &config.htpasswd else {
            return Ok(None);
        };
        let text = fs::read(path).map_err(|error| AuthError::Unreadable {
            path: path.clone(),
            error,
        })?;
        let users = Users::parse(&text).map_err(|error| AuthError::Line {
            path: path.clone(),
            line: error.line,
            problem: error.problem,
        })?;
        if users.len() == 0 {
            tracing::warn!(file = %path.display(), "auth.htpasswd names no user: every client is refused");
        }
        // Half of the cores, so that logging in does not stop the relaying.
        let threads =
            thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4));
        let realm = config.realm.as_deref().unwrap_or(REALM);
        let (authenticator, jobs) = Self::new(users, realm, MOST_RUNNING)?;
        start(threads, jobs)?;
        Ok(Some(authenticator))
    }

    fn new(
        users: Users,
        realm: &str,
        most_running: usize,
    ) -> Result<(Authenticator, Receiver<Job>), AuthError> {
        let mut salt = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut salt))
            .map_err(AuthError::System)?;
        let (jobs, receiver) = mpsc::channel();
        let shared = Shared {
            users,
            salt,
            cache: Mutex::default(),
            verified: AtomicU64::new(0),
        };
        Ok((
            Authenticator {
                realm: realm.into(),
                most_running,
                shared: Arc::new(shared),
                jobs,
            },
            receiver,
        ))
    }

    /// Who sent this `Proxy-Authorization` value. Works on any executor.
    ///
    /// # Errors
    /// 407 without credentials that do; 503 when too many are being verified.
    pub async fn check(&self, value: Option<&[u8]>) -> Result<Arc<str>, Refused> {
        let value = value.ok_or_else(|| self.refused(RefusedCause::Missing))?;
        let credentials = Credentials::parse(value)
            .map_err(|problem| self.refused(RefusedCause::Malformed(problem)))?;
        let key = self.shared.key(&credentials);
        let step = self
            .shared
            .cache()
            .step(&key, self.most_running, Instant::now());
        let answer = match step {
            Step::Known(found) => Ok(found),
            Step::Busy => return Err(self.refused(RefusedCause::Busy)),
            Step::Wait(answer) => answer.await,
            Step::Verify(answer) => {
                let job = Job {
                    credentials,
                    key,
                    shared: Arc::clone(&self.shared),
                    found: None,
                };
                // Without threads the job comes back, and its drop tells all who wait.
                drop(self.jobs.send(job));
                answer.await
            }
        };
        match answer {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(self.refused(RefusedCause::Wrong)),
            Err(_) => Err(self.refused(RefusedCause::Busy)),
        }
    }

    /// Passwords that were verified, as opposed to remembered.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.shared.verified.load(Ordering::Relaxed)
    }

    fn refused(&self, cause: RefusedCause) -> Refused {
        Refused {
            cause,
            realm: Arc::clone(&self.realm),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("realm", &self.realm)
            .field("users", &self.shared.users.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn key(&self, credentials: &Credentials) -> Key {
        Sha256::new()
            .chain_update(self.salt)
            .chain_update(credentials.pair())
            .finalize()
            .into()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads end when the authenticator is dropped.
fn start(threads: usize, jobs: Receiver<Job>) -> Result<(), AuthError> {
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads {
        let jobs = Arc::clone(&jobs);
        let work = move || {
            loop {
                // One thread waits for a job, the others for their turn to wait.
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(mut job) = job else { return };
                // A panic ends the job, which tells those who wait, and not the thread.
                let _ = catch_unwind(AssertUnwindSafe(move || job.run()));
            }
        };
        thread::Builder::new()
            .name("hnp-password".to_owned())
            .spawn(work)
            .map_err(AuthError::System)?;
    }
    Ok(())
}

impl Job {
    fn run(&mut self) {
        let found = self
            .shared
            .users
            .verify(self.credentials.user(), self.credentials.password());
        self.shared.verified.fetch_add(1, Ordering::Relaxed);
        self.found = Some(found);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.shared
            .cache()
            .finish(&self.key, self.found.take(), Instant::now());
    }
}

impl Refused {
    /// 407, or 503.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.cause == RefusedCause::Busy {
            503
        } else {
            407
        }
    }

    /// Metric label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.cause {
            RefusedCause::Missing => "credentials_missing",
            RefusedCause::Malformed(_) => "credentials_malformed",
            RefusedCause::Wrong => "credentials_wrong",
            RefusedCause::Busy => "credentials_busy",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            RefusedCause::Missing => {
                f.write_str("this proxy wants credentials, send Proxy-Authorization: Basic")
            }
            RefusedCause::Malformed(problem) => {
                write!(f, "the Proxy-Authorization field {problem}")
            }
            RefusedCause::Wrong => f.write_str("no user has this name and password"),
            RefusedCause::Busy => f.write_str("too many passwords are being verified, try again"),
        }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Answer {
        let why = refused.to_string();
        if refused.cause == RefusedCause::Busy {
            Answer::new(503, ErrorType::ProxyInternalError, Side::Hnp, why)
                .retry_after(Duration::from_secs(1))
        } else {
            Answer::new(407, ErrorType::HttpRequestDenied, Side::Client, why)
                .authenticate(&refused.realm)
        }
    }
}

#[cfg(test)]
mod tests;
