//! Records between our own two ends, where a test writes what no well-behaved peer would; and against rustls' own records. All in
//! memory, so that a test decides what arrives when.

use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConnection};

use super::key::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE};
use super::*;
use crate::tls::memory::{self, Line, MemoryStream, Side};
use crate::tls::testing::{NAME, Terms, pattern};

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// Our client and our server.
fn ours(terms: &Terms) -> (MemoryStream, MemoryStream) {
    let (client, server) = (Arc::new(terms.client()), Arc::new(terms.server()));
    let (client, server) = memory::pair(client, server, name()).unwrap();
    // The tickets.
    assert_eq!(read(&client), Err(ErrorKind::WouldBlock));
    (client, server)
}

/// rustls' client and our server.
fn with_rustls(terms: &Terms) -> (ClientConnection, MemoryStream) {
    let mut client = ClientConnection::new(Arc::new(terms.client()), name()).unwrap();
    let mut server = Side::new(UnbufferedServerConnection::new(Arc::new(terms.server())).unwrap());
    while !server.done || client.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        server.buffers.incoming.extend(&flight);
        server.go_on().unwrap();
        feed(&mut client, &std::mem::take(&mut server.buffers.outgoing)).unwrap();
    }
    let server = server.finish(&Rc::default(), &Rc::default()).unwrap();
    (client, server)
}

fn feed(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// Hands the client's records to the server's line.
fn deliver(client: &mut ClientConnection, server: &MemoryStream) {
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    server.inbound.send(&flight).unwrap();
}

/// What one read of up to 100 bytes brings.
fn read(stream: &MemoryStream) -> Result<Vec<u8>, ErrorKind> {
    let mut buffer = [0; 100];
    match stream.try_read(&mut buffer) {
        Ok(n) => Ok(buffer[..n].to_vec()),
        Err(e) => Err(e.kind()),
    }
}

/// Reads until nothing more is there.
fn read_all(stream: &MemoryStream, room: usize) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = vec![0; room];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return got,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return got,
            Err(e) => panic!("{e}"),
        }
    }
}

/// A record of any type, sealed by an end's key as if it had sent it.
fn forge(from: &MemoryStream, kind: u8, plain: &[u8]) -> Vec<u8> {
    let mut record = vec![0; plain.len() + OVERHEAD];
    let sealed = from
        .records
        .borrow_mut()
        .writer
        .key
        .seal(kind, plain, &mut record);
    record.truncate(sealed.unwrap());
    record
}

fn send_forged(from: &MemoryStream, kind: u8, plain: &[u8]) {
    from.outbound.send(&forge(from, kind, plain)).unwrap();
}

/// What the other end was told, and what it is told ever after.
fn told(stream: &MemoryStream) -> RecordError {
    let error = stream.try_read(&mut [0; 10]).unwrap_err();
    let again = stream.try_read(&mut [0; 10]).unwrap_err();
    let [error, again] = [error, again].map(|e| e.into_inner().unwrap());
    assert_eq!(error.to_string(), again.to_string());
    *error.downcast().unwrap()
}

/// The server refuses with this alert, and the client hears it.
#[track_caller]
fn assert_refused(client: &MemoryStream, server: &MemoryStream, expected: AlertDescription) {
    match told(server) {
        RecordError::Peer { alert, .. } => assert_eq!(alert, expected),
        other => panic!("{other}"),
    }
    match told(client) {
        RecordError::Alert(alert) => assert_eq!(alert, expected),
        other => panic!("{other}"),
    }
    let error = server.try_write(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn reads_with_buffers_of_every_size_what_arrives_in_pieces_of_every_size() {
    for terms in Terms::all() {
        let data = pattern(150_000, 5);
        for room in [
            1, 100, 5000, 16_384, 16_385, 40_000, 65_536, 65_600, 200_000,
        ] {
            for chunk in [7, 1000, 16_406, 1 << 20] {
                if room < 100 && chunk < 1000 {
                    continue;
                }
                let (client, server) = ours(&terms);
                server.inbound.chunk.set(chunk);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    // Records of several lengths, the longest included.
                    let n = client.try_write(&rest[..rest.len().min(70_000)]).unwrap();
                    rest = &rest[n..];
                }
                assert!(
                    read_all(&server, room) == data,
                    "{room} {chunk} {:?}",
                    terms.suite
                );
            }
        }
    }
}

#[test]
fn an_idle_stream_holds_no_buffer() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        let (client, server) = ours(&terms);
        client.outbound.room.set(30_000);
        let data = pattern(100_000, 6);
        write_all(&client, &data, 9000);
        assert!(read_all(&server, 3000) == data);
        for records in [&client.records, &server.records] {
            let records = records.borrow();
            assert_eq!(records.reader.held(), 0);
            assert_eq!(records.writer.held(), 0);
        }
        assert!(size_of::<Records>() < 700, "{}", size_of::<Records>());
    }
}

/// Writes all, with room for `step` bytes more whenever the line is full. Checks what a writer promises on the way.
fn write_all(stream: &MemoryStream, data: &[u8], step: usize) -> usize {
    let mut sent = 0;
    let mut stalls = 0;
    while sent < data.len() {
        match stream.try_write(&data[sent..]) {
            Ok(0) => panic!("nothing was written"),
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                stalls += 1;
                stream.outbound.room.set(step);
            }
            Err(e) => panic!("{e}"),
        }
        let held = stream.records.borrow().writer.held();
        assert!(held <= SCRATCH, "{held} bytes are sealed ahead");
    }
    stalls
}

#[test]
fn what_is_sealed_and_not_taken_is_not_sealed_again() {
    for terms in Terms::all() {
        let data = pattern(300_000, 7);
        for step in [1000, 16_384, 16_406, 16_407, 40_000, 65_600] {
            let (client, server) = ours(&terms);
            client.outbound.room.set(step / 2);
            let stalls = write_all(&client, &data, step);
            assert!(stalls > 0);
            // What has been reported as written is all there: nothing is held back.
            assert_eq!(client.records.borrow().writer.held(), 0);
            assert!(
                read_all(&server, 65_536) == data,
                "{step} {:?}",
                terms.suite
            );
        }
    }
}

#[test]
fn a_write_counts_only_bytes_whose_records_were_taken() {
    let (client, server) = ours(&Terms::tls13());
    let data = pattern(60_000, 8);
    client.outbound.room.set(2 * 16_406 + 100);
    assert_eq!(client.try_write(&data).unwrap(), 2 * 16_384);
    assert_eq!(read_all(&server, 65_536), &data[..2 * 16_384]);
    let blocked = client.try_write(&data[2 * 16_384..]).unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    client.outbound.room.set(usize::MAX);
    assert_eq!(
        client.try_write(&data[2 * 16_384..]).unwrap(),
        60_000 - 2 * 16_384
    );
    assert_eq!(read_all(&server, 65_536), &data[2 * 16_384..]);
}

#[test]
fn close_notify_ends_one_direction_only() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        let (client, server) = ours(&terms);
        client.try_write(b"last").unwrap();
        client.close().unwrap();
        client.close().unwrap();
        assert_eq!(read(&server), Ok(b"last".to_vec()));
        assert_eq!(read(&server), Ok(Vec::new()));
        assert_eq!(read(&server), Ok(Vec::new()));
        assert_eq!(
            client.try_write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        server.try_write(b"answer").unwrap();
        server.close().unwrap();
        assert_eq!(read(&client), Ok(b"answer".to_vec()));
        assert_eq!(read(&client), Ok(Vec::new()));
    }
}

#[test]
fn an_end_without_close_notify_is_an_error_behind_what_came() {
    for cut in [0, 3, 20] {
        let (client, server) = ours(&Terms::tls13());
        client.try_write(b"all of it").unwrap();
        let next = forge(&client, DATA, b"cut short");
        client.outbound.send(&next[..cut]).unwrap();
        server.inbound.ended.set(true);
        assert_eq!(read(&server), Ok(b"all of it".to_vec()));
        assert!(matches!(told(&server), RecordError::Truncated));
        assert_eq!(read(&server), Err(ErrorKind::UnexpectedEof));
        // It can still be written.
        server.try_write(b"x").unwrap();
    }
}

#[test]
fn a_record_that_was_changed_is_refused() {
    for terms in Terms::all() {
        // Its text, its tag, and in TLS 1.3 what the header says of it.
        for at in [HEADER + 9, 60] {
            let (client, server) = ours(&terms);
            client.try_write(b"fine").unwrap();
            let mut record = forge(&client, DATA, &[7; 50]);
            record[at] ^= 1;
            client.outbound.send(&record).unwrap();
            assert_eq!(read(&server), Ok(b"fine".to_vec()));
            assert_refused(&client, &server, AlertDescription::BadRecordMac);
        }
    }
}

#[test]
fn a_record_that_is_left_out_or_comes_twice_is_refused() {
    for terms in Terms::all() {
        let (client, server) = ours(&terms);
        let _lost = forge(&client, DATA, b"one");
        send_forged(&client, DATA, b"two");
        assert_refused(&client, &server, AlertDescription::BadRecordMac);
        let (client, server) = ours(&terms);
        let record = forge(&client, DATA, b"one");
        client.outbound.send(&record).unwrap();
        client.outbound.send(&record).unwrap();
        assert_eq!(read(&server), Ok(b"one".to_vec()));
        assert_refused(&client, &server, AlertDescription::BadRecordMac);
    }
}

/// What a TLS 1.3 peer must not send, and the alert that it gets (RFC 8446 section 5).
#[test]
fn breaches_of_tls13_get_their_alerts() {
    use AlertDescription as Is;
    type Breach = (&'static str, fn(&MemoryStream), AlertDescription);
    let breaches: [Breach; 15] = [
        (
            "too long",
            |c| drop(c.outbound.send(&[23, 3, 3, 0x41, 0x01, 0])),
            Is::RecordOverflow,
        ),
        (
            "plain text too long",
            |c| {
                let long = forge(c, DATA, &[1; FRAGMENT + 1]);
                c.outbound.send(&long).unwrap();
            },
            Is::RecordOverflow,
        ),
        (
            "another version",
            |c| drop(c.outbound.send(&[23, 2, 3, 0, 20])),
            Is::ProtocolVersion,
        ),
        (
            "plaintext",
            |c| drop(c.outbound.send(b"GET / HTTP/1.1\r\n")),
            Is::ProtocolVersion,
        ),
        (
            "a cipher change",
            |c| drop(c.outbound.send(&[20, 3, 3, 0, 1, 1])),
            Is::UnexpectedMessage,
        ),
        (
            "an alert in plaintext",
            |c| drop(c.outbound.send(&[21, 3, 3, 0, 2, 2, 40])),
            Is::UnexpectedMessage,
        ),
        (
            "nothing but padding",
            |c| send_forged(c, 0, &[0; 30]),
            Is::UnexpectedMessage,
        ),
        (
            "shorter than its tag",
            |c| drop(c.outbound.send(&[23, 3, 3, 0, 3, 1, 2, 3])),
            Is::BadRecordMac,
        ),
        (
            "an unknown type",
            |c| send_forged(c, 99, b"x"),
            Is::UnexpectedMessage,
        ),
        (
            "a cipher change, encrypted",
            |c| send_forged(c, CHANGE_CIPHER_SPEC, &[1]),
            Is::UnexpectedMessage,
        ),
        (
            "an empty handshake record",
            |c| send_forged(c, HANDSHAKE, &[]),
            Is::UnexpectedMessage,
        ),
        (
            "a ticket from a client",
            |c| send_forged(c, HANDSHAKE, &[4, 0, 0, 1, 0]),
            Is::UnexpectedMessage,
        ),
        (
            "more behind a KeyUpdate",
            |c| send_forged(c, HANDSHAKE, &[24, 0, 0, 1, 0, 24]),
            Is::UnexpectedMessage,
        ),
        (
            "a KeyUpdate of 2",
            |c| send_forged(c, HANDSHAKE, &[24, 0, 0, 1, 2]),
            Is::IllegalParameter,
        ),
        (
            "half an alert",
            |c| send_forged(c, ALERT, &[1]),
            Is::DecodeError,
        ),
    ];
    for (breach, send, alert) in breaches {
        println!("{breach}");
        let (client, server) = ours(&Terms::tls13());
        send(&client);
        assert_refused(&client, &server, alert);
    }
}

#[test]
fn a_handshake_message_may_come_in_pieces_but_not_with_data_between() {
    let (client, server) = ours(&Terms::tls13());
    send_forged(&client, HANDSHAKE, &[24, 0]);
    send_forged(&client, HANDSHAKE, &[0, 1, 0]);
    let next = client.records.borrow_mut().keeper.next_send_key().unwrap();
    client.records.borrow_mut().writer.key = next;
    client.try_write(b"under the next key").unwrap();
    assert_eq!(read(&server), Ok(b"under the next key".to_vec()));
    send_forged(&client, HANDSHAKE, &[24, 0]);
    send_forged(&client, DATA, b"x");
    assert_refused(&client, &server, AlertDescription::UnexpectedMessage);
}

#[test]
fn padding_is_taken_off() {
    let (client, server) = ours(&Terms::tls13());
    let mut padded = b"text\0".to_vec();
    padded.extend_from_slice(&[DATA, 0, 0, 0, 0, 0]);
    send_forged(&client, 0, &padded);
    assert_eq!(read(&server), Ok(b"text\0".to_vec()));
}

#[test]
fn some_records_without_data_are_fine_and_many_are_not() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        for (kind, plain) in [(DATA, &[][..]), (ALERT, &[1, 90])] {
            let (client, server) = ours(&terms);
            for _ in 0..32 {
                send_forged(&client, kind, plain);
            }
            client.try_write(b"at last").unwrap();
            assert_eq!(read(&server), Ok(b"at last".to_vec()));
            for _ in 0..33 {
                send_forged(&client, kind, plain);
            }
            assert_refused(&client, &server, AlertDescription::UnexpectedMessage);
        }
    }
}

#[test]
fn alerts_of_the_peer_are_named() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        let (client, server) = ours(&terms);
        client.try_write(b"before").unwrap();
        send_forged(
            &client,
            ALERT,
            &[2, AlertDescription::CertificateExpired.into()],
        );
        assert_eq!(read(&server), Ok(b"before".to_vec()));
        let error = server.try_read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(error.to_string().contains("CertificateExpired"), "{error}");
    }
}

#[test]
fn tls12_goes_on_without_negotiating_again() {
    let (client, server) = ours(&Terms::tls12());
    // A ClientHello of 20 bytes, in two pieces.
    send_forged(&client, HANDSHAKE, &[1, 0, 0, 20, 9, 9]);
    send_forged(&client, HANDSHAKE, &[9; 18]);
    client.try_write(b"more").unwrap();
    assert_eq!(read(&server), Ok(b"more".to_vec()));
    // HelloRequest.
    send_forged(&server, HANDSHAKE, &[0, 0, 0, 0]);
    server.try_write(b"answer").unwrap();
    assert_eq!(read(&client), Ok(b"answer".to_vec()));
    // Finished is not for now.
    send_forged(&client, HANDSHAKE, &[20, 0, 0, 1, 1]);
    assert_refused(&client, &server, AlertDescription::UnexpectedMessage);
}

#[test]
fn sequence_numbers_end_in_an_error() {
    for terms in [Terms::tls12(), Terms::tls13()] {
        let (client, server) = ours(&terms);
        client
            .records
            .borrow_mut()
            .writer
            .key
            .wear_out(u64::MAX, u64::MAX);
        if terms.version.version == rustls::ProtocolVersion::TLSv1_2 {
            assert_eq!(client.try_write(b"x").unwrap_err().kind(), ErrorKind::Other);
            assert_eq!(
                client.try_write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
        drop(server);
    }
}

/// Its own key is renewed before its limit, in the midst of a stream.
#[test]
fn a_worn_key_is_renewed() {
    let terms = Terms::tls13();
    let (mut client, server) = with_rustls(&terms);
    let data = pattern(200_000, 9);
    let mut got = Vec::new();
    server.records.borrow_mut().writer.key.wear_out(0, 3);
    let mut rest = &data[..];
    while !rest.is_empty() {
        let n = server.try_write(rest).unwrap();
        rest = &rest[n..];
        for chunk in server.outbound.take().chunks(1000) {
            feed(&mut client, chunk).unwrap();
            let mut part = [0; 70_000];
            while let Ok(n) = client.reader().read(&mut part)
                && n > 0
            {
                got.extend_from_slice(&part[..n]);
            }
        }
    }
    assert!(got == data);
}

/// rustls' KeyUpdate asks for ours in return.
#[test]
fn a_peer_may_renew_keys_and_ours_with_them() {
    let (mut client, server) = with_rustls(&Terms::tls13());
    for round in 0..10_u8 {
        client.writer().write_all(&[round; 10]).unwrap();
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[round; 20]).unwrap();
        deliver(&mut client, &server);
        assert_eq!(read(&server), Ok(vec![round; 30]));
        server.try_write(&[round; 40]).unwrap();
        feed(&mut client, &server.outbound.take()).unwrap();
        let mut back = [0; 40];
        client.reader().read_exact(&mut back).unwrap();
        assert_eq!(back, [round; 40]);
    }
    // Without data in between, there is an end to it.
    for _ in 0..40 {
        client.refresh_traffic_keys().unwrap();
        deliver(&mut client, &server);
    }
    match told(&server) {
        RecordError::Peer { alert, .. } => assert_eq!(alert, AlertDescription::UnexpectedMessage),
        other => panic!("{other}"),
    }
}

/// What is asked of us while nothing can be sent goes with what is sent next.
#[test]
fn a_key_update_is_answered_behind_what_waits() {
    let (mut client, server) = with_rustls(&Terms::tls13());
    server.outbound.room.set(100);
    let data = pattern(40_000, 10);
    assert!(server.try_write(&data).is_err());
    client.refresh_traffic_keys().unwrap();
    deliver(&mut client, &server);
    assert_eq!(read(&server), Err(ErrorKind::WouldBlock));
    server.outbound.room.set(usize::MAX);
    assert_eq!(server.try_write(&data).unwrap(), data.len());
    server.try_write(b"end").unwrap();
    let mut got = Vec::new();
    for chunk in server.outbound.take().chunks(5000) {
        feed(&mut client, chunk).unwrap();
        let mut part = [0; 20_000];
        while let Ok(n) = client.reader().read(&mut part)
            && n > 0
        {
            got.extend_from_slice(&part[..n]);
        }
    }
    assert!(got[..data.len()] == data && &got[data.len()..] == b"end");
}

/// An alert finds no room and goes later, in order.
#[test]
fn close_notify_that_finds_no_room_is_handed_back() {
    let (client, server) = ours(&Terms::tls13());
    client.outbound.room.set(16_406 + 10);
    assert_eq!(client.try_write(&[1; 16_384]).unwrap(), 16_384);
    let rest = match client.records.borrow_mut().close(&client).unwrap() {
        LastWords::Sealed(rest) => rest,
        other => panic!("{other:?}"),
    };
    let line: &Line = &client.outbound;
    line.room.set(usize::MAX);
    line.send(&rest).unwrap();
    assert_eq!(read_all(&server, 65_536).len(), 16_384);
    assert_eq!(read(&server), Ok(Vec::new()));
}
