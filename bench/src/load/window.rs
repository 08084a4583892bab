//! The stretch of time in which a load is counted.

use std::io;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::usage::ProcessTree;

/// Warm-up, then the window, then the end.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    processes: Option<&'a ProcessTree>,
    length: Duration,
    opens: Instant,
    opened: Option<(Instant, Option<Duration>)>,
}

/// What a look at the clock showed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Turn {
    /// Nothing new.
    Same,
    /// Counting begins now.
    Opened,
    /// Counting is over.
    Closed,
}

impl<'a> Window<'a> {
    pub(crate) fn new(
        processes: Option<&'a ProcessTree>,
        warm_up: Duration,
        length: Duration,
    ) -> Window<'a> {
        Window {
            processes,
            length,
            opens: Instant::now() + warm_up,
            opened: None,
        }
    }

    /// Looks at the clock.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<Turn> {
        match self.opened {
            None if now >= self.opens => {
                let cpu = self.processes.map(ProcessTree::cpu).transpose()?;
                self.opened = Some((Instant::now(), cpu));
                Ok(Turn::Opened)
            }
            Some((since, _)) if now >= since + self.length => Ok(Turn::Closed),
            _ => Ok(Turn::Same),
        }
    }

    /// What can be told of the window alone: its length and the CPU time used in it.
    pub(crate) fn close(&self) -> io::Result<Outcome> {
        let cpu = self.processes.map(ProcessTree::cpu).transpose()?;
        let Some((since, before)) = self.opened else {
            return Ok(Outcome::default());
        };
        let used = cpu
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        Ok(Outcome {
            seconds: since.elapsed().as_secs_f64(),
            cpu: used,
            ..Outcome::default()
        })
    }
}
