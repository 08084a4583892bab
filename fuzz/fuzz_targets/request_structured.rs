//! Request heads put together from parts that matter, so that few are refused for trifles.
#![no_main]

use arbitrary::Arbitrary;

#[derive(Arbitrary, Debug)]
struct Request<'a> {
    split: u16,
    method: Method<'a>,
    target: TargetForm<'a>,
    version: Version,
    host: Host<'a>,
    fields: Vec<Field<'a>>,
    end: End,
}

#[derive(Arbitrary, Debug)]
enum Method<'a> {
    Connect,
    Get,
    Post,
    Options,
    Trace,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum TargetForm<'a> {
    Authority(&'a str, u16),
    V6([u16; 8], u16),
    Absolute(&'a str, &'a str),
    AbsolutePort(&'a str, u16, &'a str),
    Origin(&'a str),
    Raw(&'a str),
    Asterisk,
}

#[derive(Arbitrary, Debug)]
enum Version {
    V11,
    V10,
    V20,
}

#[derive(Arbitrary, Debug)]
enum Host<'a> {
    Sound,
    None,
    Raw(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Field<'a> {
    Length(u64),
    LengthText(&'a str),
    Chunked,
    Coding(&'a str),
    Connection(&'a str),
    Close,
    Upgrade(&'a str),
    Te,
    Expect,
    Via(&'a str),
    MaxForwards(u8),
    Credentials(&'a [u8]),
    Other(&'a str, &'a [u8]),
    Line(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum End {
    Crlf,
    Lf,
    None,
}

impl Request<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let method = match self.method {
            Method::Connect => "CONNECT",
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Other(text) => text,
        };
        let target = match &self.target {
            TargetForm::Authority(host, port) => format!("{host}:{port}"),
            TargetForm::V6(words, port) => format!("[{}]:{port}", std::net::Ipv6Addr::from(*words)),
            TargetForm::Absolute(host, rest) => format!("http://{host}{rest}"),
            TargetForm::AbsolutePort(host, port, rest) => format!("http://{host}:{port}/{rest}"),
            TargetForm::Origin(path) => format!("/{path}"),
            TargetForm::Raw(text) => (*text).to_owned(),
            TargetForm::Asterisk => "*".to_owned(),
        };
        let version = match self.version {
            Version::V11 => "HTTP/1.1",
            Version::V10 => "HTTP/1.0",
            Version::V20 => "HTTP/2.0",
        };
        let mut out = format!("{method} {target} {version}\r\n").into_bytes();
        match self.host {
            Host::Sound => out.extend_from_slice(b"Host: a.test\r\n"),
            Host::None => {}
            Host::Raw(text) => out.extend_from_slice(format!("Host: {text}\r\n").as_bytes()),
        }
        for field in &self.fields {
            field.write(&mut out);
        }
        out.extend_from_slice(match self.end {
            End::Crlf => b"\r\n",
            End::Lf => b"\n",
            End::None => b"",
        });
        out
    }
}

impl Field<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut text = |text: String| out.extend_from_slice(text.as_bytes());
        match self {
            Field::Length(length) => text(format!("Content-Length: {length}")),
            Field::LengthText(length) => text(format!("Content-Length: {length}")),
            Field::Chunked => text("Transfer-Encoding: chunked".to_owned()),
            Field::Coding(coding) => text(format!("Transfer-Encoding: {coding}")),
            Field::Connection(options) => text(format!("Connection: {options}")),
            Field::Close => text("Connection: close".to_owned()),
            Field::Upgrade(protocol) => text(format!("Connection: upgrade\r\nUpgrade: {protocol}")),
            Field::Te => text("TE: trailers".to_owned()),
            Field::Expect => text("Expect: 100-continue".to_owned()),
            Field::Via(via) => text(format!("Via: {via}")),
            Field::MaxForwards(hops) => text(format!("Max-Forwards: {hops}")),
            Field::Credentials(bytes) => {
                out.extend_from_slice(b"Proxy-Authorization: ");
                out.extend_from_slice(bytes);
            }
            Field::Other(name, value) => {
                text(format!("{name}: "));
                out.extend_from_slice(value);
            }
            Field::Line(bytes) => out.extend_from_slice(bytes),
        }
        out.extend_from_slice(b"\r\n");
    }
}

libfuzzer_sys::fuzz_target!(|request: Request<'_>| {
    hnp_fuzz::oracle::request(&request.to_bytes(), usize::from(request.split));
});
