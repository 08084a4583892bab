use super::*;

/// Scans all at once; the whole verdict.
fn whole(framing: BodyFraming, bytes: &[u8]) -> Result<Scan, BodyError> {
    Body::new(framing).scan(bytes)
}

/// Scans byte by byte.
fn split(framing: BodyFraming, bytes: &[u8]) -> Result<Scan, BodyError> {
    let mut body = Body::new(framing);
    let mut take = 0;
    for byte in bytes {
        take += body.scan(std::slice::from_ref(byte))?.take;
    }
    Ok(Scan {
        take,
        done: body.is_done(),
    })
}

fn chunked(text: &str) -> Result<Scan, BodyError> {
    let verdict = whole(BodyFraming::Chunked, text.as_bytes());
    assert_eq!(
        split(BodyFraming::Chunked, text.as_bytes()),
        verdict,
        "{text:?}"
    );
    verdict
}

fn data(text: &str) -> String {
    let mut body = Body::new(BodyFraming::Chunked);
    let mut rest = text.as_bytes();
    let mut out = Vec::new();
    while !rest.is_empty() && !body.is_done() {
        let Piece { skip, data } = body.next(rest).unwrap();
        out.extend_from_slice(&rest[skip..skip + data]);
        rest = &rest[skip + data..];
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn sound_chunks_are_passed_to_their_end() {
    for (text, after) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "GET "),
        ("5;a=b\r\nhello\r\n0;c\r\n\r\n", "0\r\n\r\n"),
        ("5 ; a=\"b c\"\r\nhello\r\n000\r\n\r\n", "\r\n"),
        (
            "0000000000000005\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n",
            "x",
        ),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", ""),
    ] {
        let both = format!("{text}{after}");
        assert_eq!(
            chunked(&both),
            Ok(Scan {
                take: text.len(),
                done: true
            }),
            "{both:?}"
        );
    }
    assert_eq!(
        data("5\r\nhello\r\n6;x\r\n world\r\n0\r\nT: 1\r\n\r\n"),
        "hello world"
    );
}

#[test]
fn broken_chunks_are_refused() {
    use BodyError::*;
    let long = |prefix: &str, n: usize| format!("{prefix}{}", "x".repeat(n));
    let many = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(400);
    for (text, error) in [
        ("\r\n", ChunkSize),
        ("x\r\n", ChunkSize),
        ("-1\r\n", ChunkSize),
        ("+1\r\n", ChunkSize),
        ("0x5\r\nhello\r\n", ChunkSize),
        ("5_0\r\n", ChunkSize),
        (" 5\r\nhello\r\n", ChunkSize),
        ("00000000000000005\r\n", ChunkSize),
        ("fffffffffffffffff\r\n", ChunkSize),
        ("5\nhello\r\n", Line),
        ("5\rhello\r\n", Line),
        ("5;a\nhello\r\n", Line),
        ("5;a\rb\r\nhello\r\n", Line),
        ("5;\0\r\nhello\r\n", Line),
        ("5 \r\nhello\r\n", ChunkExtension),
        ("5 5\r\nhello\r\n", ChunkExtension),
        ("5\r\nhello!\r\n", ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\r0\r\n", ChunkEnd),
        ("5\r\nhell\r\n0\r\n\r\n", ChunkEnd),
        ("0\r\n\n", Line),
        ("0\r\nX: a\n\r\n", Line),
        ("0\r\nX: a\0\r\n\r\n", Line),
        ("0\r\nX: a\rb\r\n", Line),
        ("0\r\n\rX", Line),
        ("0\r\nX : a\r\n\r\n", Trailer),
        ("0\r\n X: a\r\n\r\n", Trailer),
        ("0\r\n: a\r\n\r\n", Trailer),
        ("0\r\nContent-Length: 5\r\n\r\n", Trailer),
        ("0\r\ntransfer-ENCODING: chunked\r\n\r\n", Trailer),
        ("0\r\nA: b\r\nHost: evil\r\n\r\n", Trailer),
        ("0\r\nProxy-Authorization: x\r\n\r\n", Trailer),
        (&long("5;", 300), ChunkExtension),
        (&many, ChunkExtension),
        (&long("0\r\nX: ", 9000), TrailerTooLarge),
    ] {
        assert_eq!(chunked(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_length_ends_where_it_says() {
    let framing = BodyFraming::Length(5);
    assert_eq!(
        whole(framing, b"hel"),
        Ok(Scan {
            take: 3,
            done: false
        })
    );
    assert_eq!(
        whole(framing, b"hello, world"),
        Ok(Scan {
            take: 5,
            done: true
        })
    );
    assert_eq!(
        split(framing, b"hello, world"),
        Ok(Scan {
            take: 5,
            done: true
        })
    );
    assert_eq!(
        whole(BodyFraming::None, b"GET"),
        Ok(Scan {
            take: 0,
            done: true
        })
    );
    assert_eq!(
        whole(BodyFraming::UntilClose, b"abc"),
        Ok(Scan {
            take: 3,
            done: false
        })
    );
}

#[test]
fn an_end_too_early_is_told_from_an_end() {
    let ended = |framing, bytes: &[u8]| {
        let mut body = Body::new(framing);
        body.scan(bytes).unwrap();
        body.connection_ended()
    };
    assert_eq!(
        ended(BodyFraming::Length(3), b"ab"),
        Err(BodyError::Truncated)
    );
    assert_eq!(ended(BodyFraming::Length(3), b"abc"), Ok(()));
    assert_eq!(
        ended(BodyFraming::Chunked, b"1\r\nx\r\n0\r\n"),
        Err(BodyError::Truncated)
    );
    assert_eq!(ended(BodyFraming::Chunked, b"1\r\nx\r\n0\r\n\r\n"), Ok(()));
    assert_eq!(ended(BodyFraming::UntilClose, b"ab"), Ok(()));
}
