//! The sides of an exchange that are a tunnel's connection: bytes, with nothing around them.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};

use super::message::{Answering, Broken, Part, Sink, Source};
use crate::stream::Stream;

/// Bytes of room for a read.
const ROOM: usize = 16 << 10;

/// The way to the target.
pub(crate) struct Request<'a> {
    stream: &'a Stream,
}

impl Request<'_> {
    pub(crate) fn new(stream: &Stream) -> Request<'_> {
        Request { stream }
    }
}

impl Sink for Request<'_> {
    async fn data(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        let written = self.stream.write_all(&data).await;
        written.map_err(|error| Broken::Gone(error.to_string()))?;
        if last { self.end().await } else { Ok(()) }
    }

    async fn trailers(&mut self, _trailers: HeaderMap) -> Result<(), Broken> {
        self.end().await
    }

    async fn end(&mut self) -> Result<(), Broken> {
        // Where the connection is gone already, reading tells.
        let _ = self.stream.shutdown_write();
        Ok(())
    }

    async fn broken(&mut self) -> Broken {
        std::future::pending().await
    }
}

/// The way back.
pub(crate) struct Upstream<'a> {
    stream: &'a Stream,
    early: Bytes,
    room: BytesMut,
}

impl Upstream<'_> {
    /// `early` is what came already.
    pub(crate) fn new(stream: &Stream, early: Vec<u8>) -> Upstream<'_> {
        Upstream {
            stream,
            early: early.into(),
            room: BytesMut::new(),
        }
    }
}

impl Source for Upstream<'_> {
    async fn next(&mut self) -> Result<Part, Broken> {
        if !self.early.is_empty() {
            let data = std::mem::take(&mut self.early);
            return Ok(Part::Data { data, last: false });
        }
        loop {
            self.room.resize(ROOM, 0);
            match self.stream.try_read(&mut self.room) {
                Ok(0) => return Ok(Part::End),
                Ok(n) => {
                    let data = self.room.split_to(n).freeze();
                    return Ok(Part::Data { data, last: false });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // No memory for who is silent.
                    self.room = BytesMut::new();
                    let ready = self.stream.readable().await;
                    ready.map_err(|error| Broken::Gone(error.to_string()))?;
                }
                Err(error) => return Err(Broken::Gone(error.to_string())),
            }
        }
    }

    fn taken(&mut self, _bytes: usize) {}
}

impl Answering for Upstream<'_> {
    async fn head(&mut self) -> Result<(Response<()>, bool), Broken> {
        Ok((Response::new(()), false))
    }
}
