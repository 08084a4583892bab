//! A request's content, with its beginning kept for as long as the request may have to be sent again.

use bytes::Bytes;
use http::HeaderMap;

use super::message::{Broken, Part, Source};

/// Bytes of a request's content that are kept until the upstream has said a word, so that a request which it did not look at can be sent
/// again.
const KEPT: usize = 64 << 10;

/// The content of a client's request.
pub(crate) struct Content<S> {
    source: S,
    kept: Option<Kept>,
    /// Bytes that came and that the source has not been told are taken.
    outstanding: usize,
}

/// What was given of the content.
#[derive(Default)]
struct Kept {
    data: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// How many of `data` have been given again.
    again: usize,
    /// Whether the end has been given since the last rewind.
    over: bool,
}

impl<S: Source> Content<S> {
    pub(crate) fn new(source: S) -> Content<S> {
        Content {
            source,
            kept: Some(Kept::default()),
            outstanding: 0,
        }
    }

    /// Has everything given once more. `false`: not all of it is still there.
    pub(crate) fn rewind(&mut self) -> bool {
        match &mut self.kept {
            Some(kept) => {
                kept.again = 0;
                kept.over = false;
                true
            }
            None => false,
        }
    }

    /// Where the content comes from.
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// Where the content came from.
    pub(crate) fn into_source(self) -> S {
        self.source
    }
}

impl Kept {
    /// Whether the source itself is next.
    fn is_used_up(&self) -> bool {
        self.again == self.data.len() && (!self.ended || self.over)
    }

    /// The next part of what was given before.
    fn next(&mut self) -> Option<Part> {
        if let Some(data) = self.data.get(self.again) {
            self.again += 1;
            let last = self.ended && self.trailers.is_none() && self.again == self.data.len();
            self.over |= last;
            return Some(Part::Data {
                data: data.clone(),
                last,
            });
        }
        if !self.ended || self.over {
            return None;
        }
        self.over = true;
        Some(match &self.trailers {
            Some(trailers) => Part::Trailers(trailers.clone()),
            None => Part::End,
        })
    }

    /// Notes what is given for the first time. `false`: it is too much to be kept.
    fn note(&mut self, part: &Part) -> bool {
        match part {
            Part::Data { data, last } => {
                self.bytes += data.len();
                if self.bytes > KEPT {
                    return false;
                }
                self.data.push(data.clone());
                self.again = self.data.len();
                self.ended = *last;
            }
            Part::Trailers(trailers) => {
                self.trailers = Some(trailers.clone());
                self.ended = true;
            }
            Part::End => self.ended = true,
        }
        self.over = self.ended;
        true
    }
}

impl<S: Source> Source for Content<S> {
    async fn next(&mut self) -> Result<Part, Broken> {
        if let Some(part) = self.kept.as_mut().and_then(Kept::next) {
            return Ok(part);
        }
        let part = self.source.next().await?;
        if let Part::Data { data, .. } = &part {
            self.outstanding += data.len();
        }
        if self.kept.as_mut().is_some_and(|kept| !kept.note(&part)) {
            self.kept = None;
        }
        Ok(part)
    }

    fn taken(&mut self, bytes: usize) {
        // What is sent again is taken twice.
        let bytes = bytes.min(self.outstanding);
        self.outstanding -= bytes;
        self.source.taken(bytes);
    }

    fn settle(&mut self) {
        self.kept = self.kept.take().filter(|kept| !kept.is_used_up());
    }
}
