//! The group `clock`.

use std::io::Write;
use std::net::Shutdown;

use hnp_tests::{Server, exchange};

use crate::Host;

#[test]
fn a_clock_that_differs_from_the_upstreams() {
    let origin = Server::start(|mut stream| {
        exchange::read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 503 No\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
        )?;
        stream.shutdown(Shutdown::Write)
    });
    Host::with_upstream(&format!("http://{}", origin.address()))
        .check(&[])
        .fails("clock/skew", &["ahead of", "NTP"])
        .warns("upstream/answer", &["503"]);
}
