//! What is wrong with one value, and where in it.
//!
//! A check of a list looks at every element, so that one run of `hnp config check` names all mistakes.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::model::Mode;
use super::units::{HumanDuration, PortRange, Size};

/// Adds what is wrong with the value to the list.
pub(super) type Check = fn(&Spanned<DeValue<'_>>, &mut Vec<Problem>);

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Byte range of the source.
    pub(super) span: Range<usize>,
    /// Index in a list.
    pub(super) index: Option<usize>,
    /// What is wrong; empty: the value is of another type than expected.
    pub(super) message: String,
    /// What to do, where that is more than to write what is expected.
    pub(super) help: Option<String>,
}

/// What is wrong with a text, and what to do.
type Complaint = (String, Option<String>);

/// Whatever `T` deserializes from.
pub(super) fn typed<T: DeserializeOwned>(
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) {
    read::<T>(value, problems);
}

fn read<T: DeserializeOwned>(
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match T::deserialize(ValueDeserializer::from(value.clone())) {
        Ok(read) => Some(read),
        Err(error) => {
            // Serde's words for a wrong type name Rust types: the caller has better ones.
            let message = match error.message() {
                text if WRONG_TYPE.iter().any(|start| text.starts_with(start)) => String::new(),
                text => text.to_owned(),
            };
            problems.push(problem(value, message));
            None
        }
    }
}

/// How serde's and toml's messages begin when a value is of another type.
const WRONG_TYPE: [&str; 3] = ["invalid type", "invalid value", "wanted string or table"];

fn problem(value: &Spanned<DeValue<'_>>, message: impl Into<String>) -> Problem {
    Problem {
        span: value.span(),
        index: None,
        message: message.into(),
        help: None,
    }
}

/// A check of each element of a list, an empty list included.
fn each(
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
    check: impl Fn(&Spanned<DeValue<'_>>, &mut Vec<Problem>),
) {
    let Some(list) = value.get_ref().as_array() else {
        problems.push(problem(value, ""));
        return;
    };
    for (index, element) in list.iter().enumerate() {
        let first = problems.len();
        check(element, problems);
        for problem in &mut problems[first..] {
            problem.index = Some(index);
        }
    }
}

/// A check of a string's text.
fn text(
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
    check: impl Fn(&str) -> Result<(), Complaint>,
) {
    let complaint = match value.get_ref().as_str() {
        None => Some((String::new(), None)),
        Some(text) => check(text).err(),
    };
    if let Some((message, help)) = complaint {
        problems.push(Problem {
            help,
            ..problem(value, message)
        });
    }
}

fn number(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>, range: Range<u32>) {
    let Some(number) = read::<u32>(value, problems) else {
        return;
    };
    if !range.contains(&number) {
        problems.push(problem(value, ""));
    }
}

pub(super) fn count(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    typed::<NonZeroU32>(value, problems);
}

pub(super) fn workers(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    number(value, problems, 1..1025);
}

pub(super) fn backlog(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    number(value, problems, 1..65536);
}

pub(super) fn headers(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    number(value, problems, 1..1001);
}

pub(super) fn head_size(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    if let Some(Size(bytes)) = read(value, problems)
        && !(256..=1 << 20).contains(&bytes)
    {
        problems.push(problem(value, format!("{} is out of range", Size(bytes))));
    }
}

pub(super) fn duration(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    typed::<HumanDuration>(value, problems);
}

pub(super) fn positive_duration(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    if let Some(HumanDuration(duration)) = read(value, problems)
        && duration.is_zero()
    {
        problems.push(problem(value, "must be longer than 0"));
    }
}

pub(super) fn modes(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    if value
        .get_ref()
        .as_array()
        .is_some_and(|list| list.is_empty())
    {
        problems.push(problem(value, "at least one mode is needed"));
    }
    each(value, problems, typed::<Mode>);
}

pub(super) fn path(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    if let Some(path) = read::<PathBuf>(value, problems)
        && path.as_os_str().is_empty()
    {
        problems.push(problem(value, "an empty path names no file"));
    }
}

pub(super) fn paths(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    match value.get_ref().as_array() {
        None => path(value, problems),
        Some(_) => each(value, problems, path),
    }
}

pub(super) fn quotable(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| {
        let wrong = |c: char| c.is_control() || c == '"' || c == '\\';
        match text.chars().find(|c| wrong(*c)) {
            Some(c) => Err((format!("the character {c:?} cannot stand here"), None)),
            None => Ok(()),
        }
    });
}

pub(super) fn user(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |name| {
        if name.is_empty() {
            return Err(("a user name cannot be empty".to_owned(), None));
        }
        match name.chars().find(|c| c.is_control() || *c == ':') {
            Some(c) => Err((
                format!("the character {c:?} cannot stand in a user name"),
                None,
            )),
            None => Ok(()),
        }
    });
}

/// Users, or names of certificates, in which a `:` may stand (`spiffe://…`).
pub(super) fn identities(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, |element, problems| {
        text(element, problems, |name| {
            if name.is_empty() {
                return Err(("an identity cannot be empty".to_owned(), None));
            }
            match name.chars().find(|c| c.is_control()) {
                Some(c) => Err((
                    format!("the character {c:?} cannot stand in an identity"),
                    None,
                )),
                None => Ok(()),
            }
        });
    });
}

fn address(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(("port 0 cannot be listened on or dialled".to_owned(), None))
        }
        Ok(_) => Ok(()),
        Err(_) => Err((format!("`{text}` is not an address"), address_help(text))),
    });
}

/// What the writer of something that is not `ip:port` probably meant.
fn address_help(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(format!("add the port: \"{}\"", SocketAddr::new(ip, 7777)));
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    match host {
        "" => Some(format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\"")),
        "localhost" => Some(format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")),
        "*" => Some(format!("write \"[::]:{port}\" or \"0.0.0.0:{port}\"")),
        _ => None,
    }
}

pub(super) fn address_or_off(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    if value.get_ref().as_str() != Some("off") {
        address(value, problems);
    }
}

pub(super) fn addresses(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, address);
}

pub(super) fn listen(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    match value.get_ref().as_array() {
        None => address(value, problems),
        Some(list) if list.is_empty() => {
            problems.push(problem(value, "at least one address is needed"))
        }
        Some(_) => addresses(value, problems),
    }
}

pub(super) fn ports(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, typed::<PortRange>);
}

pub(super) fn cidrs(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, |element, problems| {
        text(element, problems, cidr)
    });
}

fn cidr(text: &str) -> Result<(), Complaint> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let help = format!("for this address alone write \"{}\"", IpNet::from(ip));
        return Err((format!("`{text}` is an address, not a network"), Some(help)));
    }
    match text.parse::<IpNet>() {
        Ok(net) if net != net.trunc() => {
            let alone = IpNet::from(net.addr());
            let help = format!(
                "write \"{}\" for the network, \"{alone}\" for the address",
                net.trunc()
            );
            Err((
                format!("`{text}` has bits set beyond its prefix"),
                Some(help),
            ))
        }
        Ok(_) => Ok(()),
        Err(_) => Err((format!("`{text}` is not a network"), None)),
    }
}

pub(super) fn hosts(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, |element, problems| {
        text(element, problems, host_pattern)
    });
}

/// `*`, `*.name`, a name or a literal address.
fn host_pattern(text: &str) -> Result<(), Complaint> {
    if text == "*" || is_address(text) {
        return Ok(());
    }
    if text.parse::<IpNet>().is_ok() {
        let help = "networks go into `cidrs`".to_owned();
        return Err((format!("`{text}` is not a host name"), Some(help)));
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    host_name(name).map_err(|(why, help)| (format!("`{text}` is not a host pattern: {why}"), help))
}

/// An address as in a url: an IPv6 one may stand in brackets.
fn is_address(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(text).parse::<IpAddr>().is_ok()
}

fn host_name(name: &str) -> Result<(), Complaint> {
    let complain = |why: &str, help: Option<String>| Err((why.to_owned(), help));
    if let Some((_, rest)) = name.split_once("://") {
        let bare = rest.split(['/', ':']).next().unwrap_or_default();
        return complain("it has a scheme", Some(format!("write \"{bare}\"")));
    }
    if let Some((bare, _)) = name.split_once('/') {
        return complain("it has a path", Some(format!("write \"{bare}\"")));
    }
    if let Some((bare, port)) = name.split_once(':') {
        return complain(
            "it has a port",
            Some(format!("write \"{bare}\" here and {port} in `ports`")),
        );
    }
    if let Some(bare) = name.strip_prefix('.') {
        return complain("it starts with a dot", Some(format!("write \"*.{bare}\"")));
    }
    if name.contains('*') {
        return complain("`*` stands alone or in a leading `*.`", None);
    }
    // As targets are read: `xn--` for what is not ASCII, and `127.1` is an address in disguise.
    let ascii = match url::Host::parse(name) {
        Ok(url::Host::Domain(ascii)) => ascii,
        Ok(_) => {
            return complain(
                "it looks like an address in a form that programs read differently",
                None,
            );
        }
        Err(_) => return complain("it is not a name", None),
    };
    let labels = ascii.strip_suffix('.').unwrap_or(&ascii);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    for label in labels.split('.') {
        if label.is_empty() || label.len() > 63 || !label.bytes().all(allowed) {
            return complain("a label is 1 to 63 letters, digits, `-` or `_`", None);
        }
    }
    if labels.len() > 253 {
        return complain("it is longer than 253 characters", None);
    }
    Ok(())
}

pub(super) fn no_proxy(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    each(value, problems, |element, problems| {
        text(element, problems, |text| {
            if text == "*" || is_address(text) || text.parse::<IpNet>().is_ok() {
                return Ok(());
            }
            let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
            host_name(name.unwrap_or(text))
                .map_err(|(why, help)| (format!("`{text}` is not a target: {why}"), help))
        });
    });
}

/// The DNS name of an endpoint.
pub(super) fn server_name(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, dns_name);
}

/// A name to verify a certificate against: DNS or an address.
pub(super) fn peer_name(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => dns_name(text),
    });
}

fn dns_name(text: &str) -> Result<(), Complaint> {
    let wrong = |why: &str, help| Err((format!("`{text}` is not a DNS name: {why}"), help));
    if is_address(text) {
        return wrong("it is an address, which no client asks for by SNI", None);
    }
    if let Some(bare) = text.strip_suffix('.') {
        return wrong("it ends in a dot", Some(format!("write \"{bare}\"")));
    }
    if text.contains('*') {
        return wrong(
            "wildcards are not served",
            Some("write one name".to_owned()),
        );
    }
    if let Some((bare, _)) = text.split_once(':').filter(|_| !text.contains("://")) {
        return wrong("it has a port", Some(format!("write \"{bare}\"")));
    }
    if !text.is_ascii() {
        let help = match url::Host::parse(text) {
            Ok(url::Host::Domain(ascii)) => Some(format!("write \"{ascii}\"")),
            _ => None,
        };
        return wrong("it is not ASCII", help);
    }
    host_name(text).or_else(|(why, help)| wrong(&why, help))
}

pub(super) fn prefix(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| {
        let wrong = |why: &str, help| Err((format!("`{text}` is not a path prefix: {why}"), help));
        let Some(path) = text.strip_prefix('/') else {
            return wrong(
                "it does not start with `/`",
                Some(format!("write \"/{text}\"")),
            );
        };
        if path.is_empty() {
            return Ok(());
        }
        if let Some(at) = path.find(['?', '#']) {
            let help = Some(format!("write \"/{}\"", &path[..at]));
            return wrong("a query or fragment has no meaning here", help);
        }
        if path.ends_with('/') {
            let help = Some(format!("write \"/{}\"", path.trim_end_matches('/')));
            return wrong("it ends in `/`", help);
        }
        // What programs decode, or take away, differently from each other has no place in what separates accounts.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
        if let Some(wrong_one) = path.chars().find(|c| !u8::try_from(*c).is_ok_and(allowed)) {
            return wrong(
                &format!("the character {wrong_one:?} cannot stand in it"),
                None,
            );
        }
        match path
            .split('/')
            .find(|part| matches!(*part, "" | "." | ".."))
        {
            Some("") => wrong("it has an empty segment", None),
            Some(_) => wrong("it has a segment of dots", None),
            None => Ok(()),
        }
    });
}

pub(super) fn upstream_url(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| {
        let url = http_url(text)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err((
                "credentials have no meaning in the manager's url".to_owned(),
                None,
            ));
        }
        Ok(())
    });
}

pub(super) fn parent_url(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) {
    text(value, problems, |text| {
        let url = http_url(text)?;
        if !matches!(url.path(), "" | "/") {
            return Err(("a proxy's url has no path".to_owned(), None));
        }
        Ok(())
    });
}

/// `http://` or `https://`, a host, a port that is not 0, no query.
fn http_url(text: &str) -> Result<url::Url, Complaint> {
    let with_scheme = || Some(format!("write \"https://{text}\""));
    let url = match text.parse::<url::Url>() {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            return Err((format!("`{text}` has no scheme"), with_scheme()));
        }
        Err(error) => return Err((format!("`{text}` is not a url: {error}"), None)),
    };
    if !matches!(url.scheme(), "http" | "https") {
        // `host:8443` parses as the scheme `host`.
        return match text.contains("://") {
            true => Err((
                format!("the scheme `{}` is neither http nor https", url.scheme()),
                None,
            )),
            false => Err((format!("`{text}` has no scheme"), with_scheme())),
        };
    }
    if url.port() == Some(0) {
        return Err(("port 0 cannot be dialled".to_owned(), None));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("a query or fragment has no meaning here".to_owned(), None));
    }
    Ok(url)
}
