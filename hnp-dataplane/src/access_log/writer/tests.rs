use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::access_log::Entry;
use crate::admin::metrics::Format;

/// A destination whose writes wait for permission, each saying that it began.
struct Gate {
    began: Sender<()>,
    go: Receiver<()>,
    written: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.began.send(()).unwrap();
        // Disconnected: the test lets everything pass.
        let _: Result<(), _> = self.go.recv();
        self.written.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, Receiver<()>, Sender<()>, Receiver<Vec<u8>>) {
    let ((began, has_begun), (permit, go), (written, output)) = (channel(), channel(), channel());
    (Gate { began, go, written }, has_begun, permit, output)
}

fn entry(connection: u64) -> Entry<'static> {
    Entry::new(0, connection, "192.0.2.1:1".parse().unwrap())
}

fn dropped(metrics: &Metrics) -> u64 {
    let text = metrics.render(Format::Prometheus);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("hnp_log_lines_dropped_total{log=\"access\"} "));
    line.unwrap().parse().unwrap()
}

#[test]
fn every_line_is_written_once_and_in_order() {
    let (gate, _began, permit, output) = gate();
    drop(permit);
    let metrics = Metrics::new(2);
    let writer = LogWriter::to(gate, Arc::clone(&metrics)).unwrap();
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let log = writer.sink(LogFormat::Text);
            thread::spawn(move || {
                for connection in 0..5000 {
                    log.write(&Entry {
                        worker: Some(worker),
                        ..entry(connection)
                    });
                    if connection % 7 == 0 {
                        log.flush();
                    }
                }
                // What was not flushed is, by dropping the worker's end.
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    writer.close(Duration::from_secs(30)).unwrap();
    let text = String::from_utf8(output.iter().flatten().collect()).unwrap();
    for worker in 0..2 {
        let of_worker = text
            .lines()
            .filter(|line| line.contains(&format!(" worker={worker} ")));
        let connections: Vec<u64> = of_worker
            .map(|line| {
                line.split(" connection=")
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(connections, (0..5000).collect::<Vec<_>>());
    }
    assert_eq!(text.lines().count(), 10_000);
    assert_eq!(dropped(&metrics), 0);
}

#[test]
fn a_stuck_reader_costs_lines_but_never_time() {
    let (gate, began, permit, output) = gate();
    let metrics = Metrics::new(1);
    let writer = LogWriter::to(gate, Arc::clone(&metrics)).unwrap();
    let log = writer.sink(LogFormat::Json);
    log.write(&entry(0));
    log.flush();
    began.recv().unwrap();

    // The writer hangs in its first write from here on. This loop ends: that is the point.
    let mut lines = 1;
    while dropped(&metrics) == 0 {
        for _ in 0..1000 {
            log.write(&entry(lines));
            lines += 1;
        }
        log.flush();
        assert!(lines < 1_000_000, "the queue is not bounded");
    }
    assert!(writer.outlet.lock().buffer.len() <= QUEUE);

    drop(permit);
    drop(log);
    writer.close(Duration::from_secs(30)).unwrap();
    let written: Vec<u8> = output.iter().flatten().collect();
    let written: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&written)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("whole lines");
    let kept = written.len() as u64;
    assert!(dropped(&metrics) > 0);
    assert_eq!(
        kept + dropped(&metrics),
        lines,
        "each line was written or counted as dropped"
    );
}

#[test]
fn closing_does_not_wait_for_ever() {
    let (gate, began, permit, _output) = gate();
    let metrics = Metrics::new(1);
    let writer = LogWriter::to(gate, metrics).unwrap();
    let log = writer.sink(LogFormat::Text);
    for connection in 0..3 {
        log.write(&entry(connection));
    }
    log.flush();
    began.recv().unwrap();
    assert_eq!(
        writer.close(Duration::from_millis(20)),
        Err(Unwritten { lines: 3 })
    );
    drop(permit);
}

#[test]
fn a_reader_that_went_away_costs_lines_only() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let metrics = Metrics::new(1);
    let writer = LogWriter::to(Gone, Arc::clone(&metrics)).unwrap();
    let log = writer.sink(LogFormat::Text);
    log.write(&entry(0));
    drop(log);
    writer.close(Duration::from_secs(30)).unwrap();
    assert_eq!(dropped(&metrics), 1);
}

#[test]
fn a_short_or_would_block_write_is_continued() {
    struct Trickle {
        written: Sender<u8>,
        turn: u32,
    }
    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn += 1;
            match self.turn % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => {
                    let some = bytes.len().min(50);
                    bytes[..some]
                        .iter()
                        .for_each(|byte| self.written.send(*byte).unwrap());
                    Ok(some)
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (written, output) = channel();
    let writer = LogWriter::to(Trickle { written, turn: 0 }, Metrics::new(1)).unwrap();
    let log = writer.sink(LogFormat::Json);
    for connection in 0..3 {
        log.write(&entry(connection));
    }
    drop(log);
    writer.close(Duration::from_secs(30)).unwrap();
    let output: Vec<u8> = output.iter().collect();
    let lines: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&output)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["connection"], 2);
}

#[test]
fn a_disabled_log_keeps_nothing() {
    let log = AccessLog::disabled();
    log.write(&entry(0));
    log.flush();
    assert!(format!("{log:?}").contains("Text"));
}
