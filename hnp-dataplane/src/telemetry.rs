//! The operational log: what HNP itself has to say, on standard error.
//!
//! Its lines look like those of the access log (`key=value` words or one JSON object) and are written by a thread as well:
//! whoever reads standard error too slowly costs lines, never a worker's time.

mod layer;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::access_log::{Drops, LogWriter, Unwritten};
use crate::admin::Metrics;
use crate::config::model::{Log, LogFormat};
use layer::LogLayer;

/// Why the operational log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is none.
    #[error(
        "log.level = {0:?} in the configuration is no level: use error, warn, info, debug or trace"
    )]
    Level(String),
    /// `RUST_LOG` is no list of directives.
    #[error(
        "the environment variable RUST_LOG={value:?} is no filter ({error}): use for example RUST_LOG=hnp_dataplane=debug"
    )]
    RustLog {
        /// What it says.
        value: String,
        /// What is wrong with it.
        error: String,
    },
    /// Standard error is closed, or no thread can be started.
    #[error(
        "the operational log cannot write to standard error: {0}; start hnp with an open standard error"
    )]
    StandardError(#[source] io::Error),
    /// Something else in this process logs already.
    #[error("the operational log is set up already")]
    Twice,
}

/// The operational log at work. Lines still queued are written when this is closed, or dropped: keep it until the process
/// ends, and do not end the process by `std::process::exit` before.
#[derive(Debug)]
pub struct Telemetry {
    writer: LogWriter,
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` was set: it outranks each configuration.
    overridden: bool,
}

impl Telemetry {
    /// Sends what this process logs from now on to standard error, as `log` (and, over its level, `RUST_LOG`) says.
    /// Lines that are dropped are counted in `metrics`.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn init(log: &Log, metrics: Arc<Metrics>) -> Result<Telemetry, TelemetryError> {
        let rust_log = std::env::var("RUST_LOG")
            .ok()
            .filter(|value| !value.is_empty());
        let (filter, handle) = reload::Layer::new(filter(log, rust_log.as_deref())?);
        let stderr = io::stderr();
        let destination = stderr
            .as_fd()
            .try_clone_to_owned()
            .map_err(TelemetryError::StandardError)?;
        let count = Box::new(move |lines| metrics.operational_lines_dropped(lines));
        let drops = Drops {
            count,
            reports: None,
        };
        let writer = LogWriter::start("hnp-log", File::from(destination), Duration::ZERO, drops)
            .map_err(TelemetryError::StandardError)?;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = log.format == LogFormat::Text && stderr.is_terminal() && !no_color;
        tracing_subscriber::registry()
            .with(filter)
            .with(LogLayer::new(writer.outlet(), log.format, colour))
            .try_init()
            .map_err(|_| TelemetryError::Twice)?;
        Ok(Telemetry {
            writer,
            filter: handle,
            overridden: rust_log.is_some(),
        })
    }

    /// Takes the level of a configuration that was loaded again. The format stays that of the start.
    ///
    /// # Errors
    /// When there is no such level: the old one stays.
    pub fn reload(&self, log: &Log) -> Result<(), TelemetryError> {
        if self.overridden {
            return Ok(());
        }
        let filter = filter(log, None)?;
        // Fails only without a subscriber, and the one of `init` lives as long as the process.
        let _: Result<(), reload::Error> = self.filter.reload(filter);
        Ok(())
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub fn close(self, within: Duration) -> Result<(), Unwritten> {
        self.writer.close(within)
    }
}

/// `RUST_LOG` says all; a level of the configuration is for this program, libraries speak from warnings on.
fn filter(log: &Log, rust_log: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    if let Some(value) = rust_log {
        return EnvFilter::builder()
            .parse(value)
            .map_err(|error| TelemetryError::RustLog {
                value: value.to_owned(),
                error: error.to_string(),
            });
    }
    let level = match log.level.as_str() {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(TelemetryError::Level(log.level.clone())),
    };
    let libraries = level.min(LevelFilter::WARN);
    EnvFilter::builder()
        .parse(format!("{libraries},hnp={level},hnp_dataplane={level}"))
        .map_err(|_| TelemetryError::Level(log.level.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(level: &str) -> Log {
        Log {
            level: level.to_owned(),
            ..Log::default()
        }
    }

    #[test]
    fn the_level_is_for_this_program() {
        assert_eq!(
            filter(&log("debug"), None).unwrap().to_string(),
            "hnp_dataplane=debug,hnp=debug,warn"
        );
        assert_eq!(
            filter(&log("error"), None).unwrap().to_string(),
            "hnp_dataplane=error,hnp=error,error"
        );
    }

    #[test]
    fn rust_log_outranks_the_level() {
        assert_eq!(
            filter(&log("debug"), Some("hyper=trace"))
                .unwrap()
                .to_string(),
            "hyper=trace"
        );
    }

    #[test]
    fn what_is_no_level_is_named() {
        for level in ["verbose", "", "3", "info,hyper=trace"] {
            let error = filter(&log(level), None).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{level:?}")) && error.contains("error, warn, info"),
                "{error}"
            );
        }
        let error = filter(&log("info"), Some("a=b=c")).unwrap_err().to_string();
        assert!(error.contains("RUST_LOG=\"a=b=c\""), "{error}");
    }
}
