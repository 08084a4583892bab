//! Who a certificate says that somebody is.

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::pki_types::UnixTime;

use super::pki::{Authority, Leaf, Pki};
use crate::tls::Identity;

fn identity(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let authority = Authority::new();
    let shown = authority.issue(&Leaf::client("pod").change(change));
    Identity::of(&shown.ders()[0]).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn common_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

#[test]
fn the_name_is_the_best_that_there_is() {
    let spiffe = "spiffe://acme.test/ns/hce/sa/pod";
    let named = |names: &[SanType], cn: Option<&str>| {
        identity(|params| {
            params.subject_alt_names = names.to_vec();
            params.distinguished_name = DistinguishedName::new();
            if let Some(cn) = cn {
                common_name(params, cn);
            }
        })
    };
    let all = named(&[dns("a.test"), uri(spiffe), dns("b.test")], Some("pod"));
    assert_eq!(all.name(), spiffe);
    assert_eq!(all.spiffe.as_deref(), Some(spiffe));
    assert_eq!(all.dns, ["a.test".into(), "b.test".into()]);
    assert_eq!(all.uris, [spiffe.into()]);
    assert_eq!(named(&[dns("a.test")], Some("pod")).name(), "pod");
    assert_eq!(
        named(&[dns("a.test"), dns("b.test")], None).name(),
        "a.test"
    );
    // With a second URI it is no SPIFFE document.
    let two = named(&[uri(spiffe), uri("https://acme.test")], Some("pod"));
    assert_eq!((two.name(), two.spiffe.as_deref()), ("pod", None));
    let none = named(&[], None);
    assert_eq!(none.name(), format!("sha256:{}", none.fingerprint()));
}

/// Policies match names: a common name must not pass for what others have as an alternative name.
#[test]
fn a_common_name_is_no_spiffe_id() {
    for cn in ["spiffe://acme.test/admin", "sha256:00", ""] {
        let identity = identity(|params| common_name(params, cn));
        assert_eq!(identity.cn.as_deref(), Some(cn));
        assert!(
            identity.name().starts_with("sha256:"),
            "{}",
            identity.name()
        );
        assert_ne!(identity.name(), cn);
    }
    let hidden = identity(|params| common_name(params, "a\r\nb\u{1b}[0m"));
    assert_eq!(hidden.name(), "a\u{fffd}\u{fffd}b\u{fffd}[0m");
}

/// The same as OpenSSL prints for `-subject -nameopt RFC2253`, but for quotes and backslashes, which stand as digits.
#[test]
fn a_subject_is_written_as_rfc_4514_has_it() {
    let pki = Pki::new();
    let subject = |name: &str| {
        pki.write("name", name);
        pki.shell(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -utf8 -multivalue-rdn -subj \"$(cat name)\" -keyout x.key -out x.crt
             openssl x509 -in x.crt -noout -subject -nameopt RFC2253 | sed 's/^subject=//' > subject
             openssl x509 -in x.crt -noout -serial | sed 's/^serial=//' > serial
             openssl x509 -in x.crt -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' > fingerprint",
        );
        let identity = Identity::of(&pki.shown(".", "x").ders()[0]).unwrap();
        assert_eq!(identity.subject.as_ref(), pki.read("subject").trim_end());
        let (serial, fingerprint) = (pki.read("serial"), pki.read("fingerprint"));
        assert_eq!(identity.serial.to_uppercase(), serial.trim_end());
        assert_eq!(
            identity.fingerprint().to_uppercase(),
            fingerprint.trim_end()
        );
        identity
    };
    assert_eq!(
        subject("/C=DE/O=Example ORG/CN=Client").subject.as_ref(),
        "CN=Client,O=Example ORG,C=DE"
    );
    subject("/O=a, b; c+d\\/CN=x");
    subject("/O=#x/OU=<y>=z/CN= lead and trail ");
    subject("/O=Bücher/CN=日本");
    subject("/O=a+OU=b/CN=x");
    assert_eq!(subject("/O=q/CN=first/CN=last").cn.as_deref(), Some("last"));
    let quoted = identity(|params| common_name(params, "a\"b\\c\n"));
    assert_eq!(quoted.subject.as_ref(), "CN=a\\22b\\5Cc\\0A");
}

#[test]
fn xfcc_has_hash_subject_and_names() {
    let one = identity(|params| {
        params.subject_alt_names =
            vec![uri("spiffe://acme.test/pod"), dns("a.test"), dns("b.test")];
    });
    assert_eq!(
        one.xfcc(),
        format!(
            "Hash={};Subject=\"CN=pod\";URI=spiffe://acme.test/pod;DNS=a.test;DNS=b.test",
            one.fingerprint()
        )
    );
    let hostile = identity(|params| {
        common_name(params, "x\";Hash=0;URI=spiffe://acme.test/admin\r\nX: y");
        params.subject_alt_names = vec![uri("urn:a;URI=b\",c=d"), dns("a\";DNS=admin")];
    });
    assert_eq!(
        hostile.xfcc(),
        format!(
            "Hash={};Subject=\"CN=x\\22\\;Hash=0\\;URI=spiffe://acme.test/admin\\0D\\0AX: y\";\
             URI=\"urn:a;URI=b%22,c=d\";DNS=\"a%22;DNS=admin\"",
            hostile.fingerprint()
        )
    );
}

#[test]
fn dates_and_versions() {
    let pki = Pki::new();
    let guide = Identity::of(&pki.guide("guide").ders()[0]).unwrap();
    assert_eq!(guide.name(), "Client");
    assert_eq!(guide.subject.as_ref(), "CN=Client,O=Example ORG");
    let now = UnixTime::now();
    assert!(guide.is_valid_at(now));
    let end = guide.not_after.unsigned_abs();
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    assert!(guide.is_valid_at(at(end)) && !guide.is_valid_at(at(end + 1)));
    let begin = guide.not_before.unsigned_abs();
    assert!(guide.is_valid_at(at(begin)) && !guide.is_valid_at(at(begin - 1)));
    for malformed in [&b""[..], b"\x30\x00", b"hello", &[0x30, 0x82]] {
        assert_eq!(Identity::of(malformed), None);
    }
}
