//! Waiting for what sends no event: a gauge, a counter, a file under `/proc`.

use std::time::{Duration, Instant};

use crate::{DEADLINE, patient};

/// Asks until there is an answer, and panics with `what` (and the last reason for not having one) after [`DEADLINE`].
///
/// # Panics
/// After the deadline.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let limit = patient(DEADLINE);
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if Instant::now() > end => {
                panic!("gave up after {limit:?} waiting for {what}: {reason}")
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
