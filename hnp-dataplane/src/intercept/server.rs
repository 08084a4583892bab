//! The control socket of a running HNP.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;

use super::protocol::{Request, Response};
use super::{InterceptError, Interceptor};

/// Longest request.
const LONGEST: usize = 16 << 10;

/// Why there is no control socket.
#[derive(Debug, Error)]
#[error("cannot make the control socket {path}: {why}")]
pub struct ControlError {
    path: PathBuf,
    why: String,
}

/// The control socket; removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, for root (or whoever runs HNP) alone. Must run on the control thread's runtime.
    ///
    /// # Errors
    /// Another HNP answers there, or the place cannot be used.
    pub fn bind(path: &Path) -> Result<Server, ControlError> {
        let error = |why: String| ControlError {
            path: path.to_owned(),
            why,
        };
        if let Some(directory) = path.parent() {
            // A directory that is there already stays as it is.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .map_err(|why| error(format!("{}: {why}", directory.display())))?;
        }
        remove_stale(path).map_err(error)?;
        let listener = UnixListener::bind(path).map_err(|why| error(why.to_string()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|why| error(why.to_string()))?;
        Ok(Server {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until it is dropped.
    pub async fn serve(self, interceptor: Arc<Mutex<Interceptor>>) {
        loop {
            match self.listener.accept().await {
                Ok((caller, _)) if may_ask(&caller) => {
                    tokio::spawn(answer(caller, Arc::clone(&interceptor)));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("the control socket cannot accept: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that an HNP has left which did not end in order.
fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "something else is there: remove it, or choose another `intercept.control`".to_owned(),
        );
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(
            "another `hnp run` answers there: end it, or choose another `intercept.control`"
                .to_owned(),
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Root, and whoever runs HNP: the file's mode says the same, this holds also where its directory is shared into a container.
fn may_ask(caller: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    caller
        .peer_cred()
        .is_ok_and(|credentials| [0, own].contains(&credentials.uid()))
}

async fn answer(caller: UnixStream, interceptor: Arc<Mutex<Interceptor>>) {
    let (read, mut write) = caller.into_split();
    let mut read = BufReader::with_capacity(LONGEST, read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = tokio::io::AsyncReadExt::take(&mut read, LONGEST as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let request = serde_json::from_slice::<Request>(&line);
        if let Ok(Request::Observe) = request {
            return observe(read, write, &interceptor).await;
        }
        let response = match request {
            Ok(request) => respond(&mut lock(&interceptor), request),
            Err(error) => Response::Failed {
                error: format!("the request is none: {error}"),
            },
        };
        if send(&mut write, &response).await.is_err() {
            return;
        }
    }
}

fn respond(interceptor: &mut Interceptor, request: Request) -> Response {
    let done = match request {
        Request::Attach {
            cgroup: Some(path),
            pid: None,
            close_existing,
        } => interceptor
            .attach(&path)
            .map(|pod| vec![interceptor.with_existing(pod, close_existing)]),
        Request::Attach {
            cgroup: None,
            pid: Some(pid),
            close_existing,
        } => interceptor
            .attach_process(pid)
            .map(|pod| vec![interceptor.with_existing(pod, close_existing)]),
        Request::Attach { .. } => {
            return Response::Failed {
                error: "either a cgroup or a pid must be named".to_owned(),
            };
        }
        Request::Detach { pod: Some(pod) } => interceptor.detach(&pod).map(|pod| vec![pod]),
        Request::Detach { pod: None } => interceptor.detach_all(),
        Request::List | Request::Observe => Ok(interceptor.list()),
    };
    match done {
        Ok(pods) => Response::Done { pods },
        Err(error) => Response::Failed {
            error: error.to_string(),
        },
    }
}

/// Sends events until the caller hangs up.
async fn observe(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    interceptor: &Mutex<Interceptor>,
) {
    let (mut events, pods) = {
        let mut interceptor = lock(interceptor);
        let events = interceptor.observers().join();
        if let Err(error) = interceptor.observed() {
            warn(&error);
        }
        (events, interceptor.list())
    };
    // The first line says that from now on nothing is missed.
    let mut gone = send(&mut write, &Response::Done { pods }).await.is_err();
    while !gone {
        tokio::select! {
            event = events.recv() => gone = match event {
                Ok(event) => send(&mut write, &*event).await.is_err(),
                Err(RecvError::Lagged(lost)) => {
                    let lost = serde_json::json!({ "event": "lost", "count": lost });
                    send(&mut write, &lost).await.is_err()
                }
                Err(RecvError::Closed) => true,
            },
            // It has nothing more to say, so that this is its end.
            _ = read.fill_buf() => gone = true,
        }
    }
    drop(events);
    if let Err(error) = lock(interceptor).observed() {
        warn(&error);
    }
}

fn warn(error: &InterceptError) {
    tracing::warn!("the kernel cannot be told whether to report: {error}");
}

async fn send(write: &mut OwnedWriteHalf, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// Nothing is left half done where a holder panics: each pod is entered or removed as a whole.
pub(crate) fn lock(interceptor: &Mutex<Interceptor>) -> MutexGuard<'_, Interceptor> {
    interceptor.lock().unwrap_or_else(PoisonError::into_inner)
}
