//! Talking to a running HNP over its control socket.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::protocol::{PodReport, Request, Response};

/// Why there is no answer, or one that is a refusal.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error(
        "no `hnp run` with [intercept] answers at {path} ({error}): start one, or name its configuration by --config"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// The socket is for root.
    #[error("{path} is for root alone: run this as root")]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke.
    #[error("the running hnp went away: {0}")]
    Broken(#[from] io::Error),
    /// What came is no answer.
    #[error(
        "the running hnp answers something else than expected ({0}): is it of another version?"
    )]
    Strange(#[from] serde_json::Error),
    /// The running HNP says no.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a running HNP.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// None runs, or this user may not ask.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let path = path.to_owned();
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Client {
                stream: BufReader::new(stream),
            }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::NotPermitted { path })
            }
            Err(error) => Err(ClientError::NotRunning { path, error }),
        }
    }

    /// Asks, and waits for the answer: the pods that it is about.
    ///
    /// # Errors
    /// HNP refuses, or the connection breaks.
    pub fn ask(&mut self, request: &Request) -> Result<Vec<PodReport>, ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        match self.receive()? {
            Some(Response::Done { pods }) => Ok(pods),
            Some(Response::Failed { error }) => Err(ClientError::Refused(error)),
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// The next line, in what it is to be read as; `None` when HNP has hung up. After [`Request::Observe`] these are
    /// [events](super::Event).
    ///
    /// # Errors
    /// It is something else, or the connection breaks.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Ok(None),
            _ => Ok(Some(serde_json::from_str(&line)?)),
        }
    }
}
