//! From an event to a line.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::access_log::{Clock, Line, Outlet};
use crate::config::model::LogFormat;

/// Writes each event as one line: time, level, module, the fields of the spans around it, its own.
pub(super) struct LogLayer {
    outlet: Arc<Outlet>,
    format: LogFormat,
    colour: bool,
}

/// A span's fields, already as they stand in a line.
struct SpanFields(Vec<u8>);

thread_local! {
    static SCRATCH: RefCell<(Vec<u8>, Clock)> = RefCell::new((Vec::new(), Clock::new()));
}

impl LogLayer {
    pub(super) fn new(outlet: Arc<Outlet>, format: LogFormat, colour: bool) -> LogLayer {
        LogLayer {
            outlet,
            format,
            colour,
        }
    }

    fn write<S>(
        &self,
        buffer: &mut Vec<u8>,
        clock: &mut Clock,
        event: &Event<'_>,
        context: &Context<'_, S>,
    ) where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let mut line = Line::begin(buffer, self.format);
        line.word("time", &clock.format(SystemTime::now()));
        let (level, colour) = level(*event.metadata().level());
        if self.colour {
            line.coloured("level", level, colour);
        } else {
            line.word("level", level.as_bytes());
        }
        let mut module = Module(None);
        event.record(&mut module);
        line.string(
            "module",
            module.0.as_deref().unwrap_or(event.metadata().target()),
        );
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                line.fragment(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        line.end();
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Vec::new();
        attributes.record(&mut Fields(&mut Line::fragment_of(
            &mut fields,
            self.format,
        )));
        span.extensions_mut().insert(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut() {
            values.record(&mut Fields(&mut Line::fragment_of(fields, self.format)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        SCRATCH.with(|scratch| {
            // Taken when a value logs while it is shown: that line gets memory of its own.
            let mut own = (Vec::new(), Clock::new());
            let mut shared = scratch.try_borrow_mut();
            let (buffer, clock) = shared.as_deref_mut().unwrap_or(&mut own);
            buffer.clear();
            self.write(buffer, clock, event, &context);
            self.outlet.offer(buffer, 1);
        });
    }
}

fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("error", "31"),
        Level::WARN => ("warn", "33"),
        Level::INFO => ("info", "32"),
        Level::DEBUG => ("debug", "34"),
        Level::TRACE => ("trace", "35"),
    }
}

/// Where a record of the `log` crate comes from: tracing carries that as a field.
struct Module(Option<String>);

impl Visit for Module {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

struct Fields<'l, 'b>(&'l mut Line<'b>);

impl Fields<'_, '_> {
    fn with(&mut self, field: &Field, write: impl FnOnce(&mut Line<'_>, &str)) {
        match field.name() {
            // Of a record of the `log` crate: see `Module`.
            name if name.starts_with("log.") => {}
            // A line has each key once.
            name @ ("time" | "level" | "module") => write(self.0, &format!("{name}_")),
            name => write(self.0, name.trim_start_matches("r#")),
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.with(field, |line, key| line.number(key, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.with(field, |line, key| line.literal(key, value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.with(field, |line, key| match value.is_finite() {
            true => line.literal(key, value),
            // JSON knows no such number.
            false => line.display(key, &value),
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.with(field, |line, key| line.literal(key, value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.with(field, |line, key| line.string(key, value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.with(field, |line, key| line.display(key, &value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.with(field, |line, key| {
            line.display(key, &format_args!("{value:?}"))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use tracing::{info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::access_log::{Drops, LogWriter};

    struct Lines(Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` logs, its lines without the time.
    fn logged(format: LogFormat, colour: bool, log: impl FnOnce()) -> Vec<String> {
        let (sender, output) = channel();
        let drops = Drops {
            count: Box::new(|lines| panic!("{lines} dropped")),
            reports: None,
        };
        let writer = LogWriter::start("test-log", Lines(sender), Duration::ZERO, drops).unwrap();
        let layer = LogLayer::new(writer.outlet(), format, colour);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        writer.close(Duration::from_secs(30)).unwrap();
        let text = String::from_utf8(output.iter().flatten().collect()).unwrap();
        text.lines()
            .map(|line| line.split_once("Z").unwrap().1.to_owned())
            .collect()
    }

    fn some_events() {
        let worker = info_span!("worker", worker = 1, backend = tracing::field::Empty);
        let _in_worker = worker.enter();
        worker.record("backend", "epoll");
        info!(address = %"0.0.0.0:7777", backlog = -1, ratio = 0.5, odd = f64::NAN, up = true, "listening");
        let error = io::Error::other("a \"quoted\"\nline");
        warn!(error = &error as &dyn std::error::Error, time = 3, r#type = ?Some(1), "failed");
    }

    #[test]
    fn an_event_in_text() {
        assert_eq!(
            logged(LogFormat::Text, false, some_events),
            [
                " level=info module=hnp_dataplane::telemetry::layer::tests worker=1 backend=epoll message=listening \
                 address=0.0.0.0:7777 backlog=-1 ratio=0.5 odd=NaN up=true",
                " level=warn module=hnp_dataplane::telemetry::layer::tests worker=1 backend=epoll message=failed \
                 error=\"a \\\"quoted\\\"\\nline\" time_=3 type=Some(1)",
            ]
        );
    }

    #[test]
    fn an_event_in_json() {
        let lines = logged(LogFormat::Json, false, some_events);
        assert_eq!(
            lines[0],
            "\",\"level\":\"info\",\"module\":\"hnp_dataplane::telemetry::layer::tests\",\"worker\":1,\
             \"backend\":\"epoll\",\"message\":\"listening\",\"address\":\"0.0.0.0:7777\",\"backlog\":-1,\
             \"ratio\":0.5,\"odd\":\"NaN\",\"up\":true}"
        );
        let whole = format!("{{\"time\":\"{}", lines[1]);
        let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(value["error"], "a \"quoted\"\nline");
    }

    #[test]
    fn only_the_level_is_coloured() {
        let line = logged(LogFormat::Text, true, || warn!("x")).remove(0);
        assert_eq!(
            line,
            " level=\u{1b}[33mwarn\u{1b}[0m module=hnp_dataplane::telemetry::layer::tests message=x"
        );
    }

    #[test]
    fn a_value_that_logs_while_it_is_shown() {
        struct Chatty;
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                info!("inner");
                f.write_str("shown")
            }
        }
        let lines = logged(LogFormat::Text, false, || info!(value = %Chatty, "outer"));
        // Under `with_default` tracing drops the inner event, under a global subscriber it does not.
        let outer = lines.last().unwrap();
        assert!(outer.ends_with(" message=outer value=shown"), "{lines:?}");
    }

    #[test]
    fn a_record_of_the_log_crate_keeps_its_module() {
        let lines = logged(LogFormat::Text, false, || {
            info!(log.target = "hyper::proto", log.line = 3, "x");
        });
        assert_eq!(lines, [" level=info module=hyper::proto message=x"]);
    }
}
