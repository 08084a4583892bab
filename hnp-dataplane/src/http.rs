//! HTTP/1 as a proxy has to read it: strictly, because what two programs read differently is how requests are smuggled.
//!
//! Everything here except [`forward`] is sans-IO: bytes in, meaning out, nothing kept but positions.
//!
//! ```text
//! client ──▶ head (request) ──▶ CONNECT: answer, then relay
//!                           └─▶ http://: forward ─┬─ rewrite ─▶ upstream
//!                                                 └─ body, response ◀─ upstream
//! ```

pub mod answer;
pub mod body;
pub mod fields;
pub mod forward;
pub mod h2;
pub mod head;
mod lines;
pub mod linger;
pub mod pool;
pub mod proxy_status;
pub mod response;
pub mod reverse;
pub mod rewrite;

pub use answer::Answer;
pub use head::{
    BodyFraming, HeadError, HeadLimits, RequestHead, RequestTarget, Version, parse_request,
};
pub use proxy_status::{ErrorType, Side};
