//! `hnp certs` as users run it, and what OpenSSL makes of its files and it of OpenSSL's.
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use serde_json::Value;
use tempfile::TempDir;

/// The commands of the mTLS guide, as users type them.
const GUIDE: &str = r#"
openssl req -x509 -sha256 -nodes -days 9999 -newkey rsa:2048 -subj "/O=Example ORG/CN=CA Cert" -keyout ca.key -out ca.crt
cat > client.cnf <<EOF
[req]
default_bits = 2048
prompt = no
default_md = sha256
x509_extensions = v3_req
distinguished_name = dn
[dn]
O = Example ORG
CN = Client
[v3_req]
# empty
EOF
openssl req -new -config client.cnf -nodes -out client.csr -keyout client.key
openssl x509 -req -sha256 -days 9999 -extfile client.cnf -extensions v3_req -CAcreateserial -CA ca.crt -CAkey ca.key -in client.csr -out client.crt
"#;

/// Runs shell lines in `directory`, with `hnp` first on the path.
fn shell(directory: &Path, lines: &str) -> Output {
    let hnp = Path::new(env!("CARGO_BIN_EXE_hnp")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("/bin/sh")
        .args(["-ec", lines])
        .current_dir(directory)
        .env_clear()
        .env("PATH", format!("{}:{path}", hnp.display()))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The output of lines that succeed.
fn done(directory: &Path, lines: &str) -> String {
    let output = shell(directory, lines);
    assert_eq!(output.status.code(), Some(0), "{lines}: {output:?}");
    text(&output.stdout)
}

/// What lines that fail with 1 say: all of it names a file, a fault and a remedy.
fn refused(directory: &Path, lines: &str) -> String {
    let output = shell(directory, lines);
    assert_eq!(output.status.code(), Some(1), "{lines}: {output:?}");
    let errors = text(&output.stderr);
    for line in errors.lines() {
        let named = line.starts_with("error: ") && line.contains(": ") && line.contains("; ");
        assert!(named, "{lines}: {line}");
    }
    errors
}

fn json(directory: &Path, lines: &str) -> Value {
    serde_json::from_slice(&shell(directory, lines).stdout).unwrap()
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The one thing that the `index`-th file holds.
fn only(report: &Value, index: usize) -> &Value {
    let holds = report["files"][index]["holds"].as_array().unwrap();
    assert_eq!(holds.len(), 1, "{report:#}");
    &holds[0]
}

#[test]
fn the_examples_of_each_help_work_in_their_order() {
    let commands = ["", " ca", " client", " server", " secret", " inspect"];
    for command in commands {
        let directory = directory();
        let help = done(directory.path(), &format!("hnp certs{command} --help"));
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let examples: Vec<&str> = examples
            .lines()
            .map_while(|line| line.strip_prefix("  "))
            .map(|line| line.split("   ").next().unwrap())
            .collect();
        assert!(examples.len() >= 2, "{help}");
        for example in examples {
            let output = shell(directory.path(), example);
            assert_eq!(output.status.code(), Some(0), "{example}: {output:?}");
            assert!(
                !output.stdout.is_empty() && output.stderr.is_empty(),
                "{example}: {output:?}"
            );
        }
    }
}

#[test]
fn openssl_accepts_what_is_made_for_what_it_is_for() {
    let directory = directory();
    let directory = directory.path();
    done(directory, "hnp certs ca --name 'Test CA' --days 30");
    done(
        directory,
        "hnp certs client --name pod-1 --days 20 --san spiffe.example",
    );
    done(
        directory,
        "hnp certs server --days 20 --san hnp.example.com --san 10.0.0.5",
    );
    done(
        directory,
        "openssl verify -x509_strict -CAfile ca.crt ca.crt",
    );
    done(
        directory,
        "openssl verify -x509_strict -CAfile ca.crt -purpose sslclient client.crt",
    );
    done(
        directory,
        "openssl verify -x509_strict -CAfile ca.crt -purpose sslserver -verify_hostname hnp.example.com server.crt
         openssl verify -CAfile ca.crt -verify_ip 10.0.0.5 server.crt",
    );
    for crossed in ["sslserver client.crt", "sslclient server.crt"] {
        let line = format!("openssl verify -CAfile ca.crt -purpose {crossed}");
        assert_ne!(shell(directory, &line).status.code(), Some(0), "{line}");
    }
    let ca = done(directory, "openssl x509 -in ca.crt -noout -text");
    for expected in [
        "Version: 3",
        "CN = Test CA",
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "prime256v1",
    ] {
        assert!(ca.contains(expected), "{expected}: {ca}");
    }
    let client = done(directory, "openssl x509 -in client.crt -noout -text");
    for expected in [
        "CN = pod-1",
        "CA:FALSE",
        "TLS Web Client Authentication",
        "DNS:spiffe.example",
    ] {
        assert!(client.contains(expected), "{expected}: {client}");
    }
    for key in ["ca.key", "client.key", "server.key"] {
        let mode = fs::metadata(directory.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
        done(directory, &format!("openssl pkey -in {key} -noout -check"));
    }
}

#[test]
fn files_are_replaced_only_by_force() {
    let directory = directory();
    let directory = directory.path();
    done(directory, "hnp certs ca && hnp certs client");
    let first = fs::read(directory.join("client.key")).unwrap();
    assert!(refused(directory, "hnp certs client").contains("--force"));
    assert!(refused(directory, "hnp certs ca").starts_with("error: ca.crt: is there already"));
    // A key alone is in the way, too, and nothing is written beside it.
    done(directory, "rm client.crt");
    refused(directory, "hnp certs client");
    assert!(!directory.join("client.crt").exists());
    assert_eq!(fs::read(directory.join("client.key")).unwrap(), first);
    done(
        directory,
        "chmod 644 client.key && hnp certs client --force",
    );
    let key = directory.join("client.key");
    assert_ne!(fs::read(&key).unwrap(), first);
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_ca_that_cannot_sign_is_named() {
    let directory = directory();
    let directory = directory.path();
    assert!(refused(directory, "hnp certs client").contains("`hnp certs ca`"));
    done(directory, "hnp certs ca --days 10");
    assert!(refused(directory, "hnp certs client").contains("--days"));
    done(directory, "hnp certs ca --dir other");
    done(
        directory,
        "cp ca.key ca.key.right && cp other/ca.key ca.key",
    );
    let said = refused(directory, "hnp certs client --days 5");
    assert!(
        said.starts_with("error: ca.key: does not match ca.crt"),
        "{said}"
    );
    done(
        directory,
        "mv ca.key.right ca.key && hnp certs client --days 5 --dir leaf --ca-dir .",
    );
    let said = refused(
        directory,
        "cp leaf/client.crt leaf/ca.crt; cp leaf/client.key leaf/ca.key; hnp certs server --dir leaf --days 1",
    );
    assert!(said.contains("leaf/ca.crt: cannot be a CA"), "{said}");
    for usage in [
        "client --days 0",
        "server --san 'a b'",
        "secret --ca ca.crt",
        "inspect",
    ] {
        let output = shell(directory, &format!("hnp certs {usage}"));
        assert_eq!(output.status.code(), Some(2), "{usage}: {output:?}");
    }
}

#[test]
fn the_guides_v1_client_certificate_is_a_client_certificate_and_never_a_ca() {
    let directory = directory();
    let directory = directory.path();
    done(directory, GUIDE);
    let files = "ca.crt ca.key client.csr client.crt client.key";
    let report = json(directory, &format!("hnp certs inspect --json {files}"));
    assert_eq!(report["errors"], serde_json::json!([]), "{report:#}");
    let client = only(&report, 3);
    assert_eq!(client["version"], 1);
    assert_eq!(client["subject"], "O=Example ORG, CN=Client");
    assert_eq!(client["public_key"], "RSA 2048");
    assert_eq!(client["keys"][0], "client.key");
    assert_eq!(client["chain"], serde_json::json!(["ca.crt"]));
    let accepted = |entry: &Value| {
        ["client_certificate", "server_certificate", "ca"]
            .map(|role| entry["roles"][role]["accepted"].as_bool().unwrap())
    };
    assert_eq!(accepted(client), [true, false, false], "{client:#}");
    assert_eq!(accepted(only(&report, 0)), [false, false, true]);
    assert_eq!(only(&report, 2)["kind"], "request");
    assert_eq!(only(&report, 4)["format"], "PKCS#8");

    let said = done(directory, &format!("hnp certs inspect {files}"));
    assert!(
        said.contains("as CA        no: X.509 v1 cannot say that it is a CA"),
        "{said}"
    );
    assert!(
        said.contains("signed by    ca.crt (signature checked)"),
        "{said}"
    );
    done(directory, "hnp certs secret");
    // A CA made by OpenSSL signs ours.
    done(
        directory,
        "hnp certs server && openssl verify -CAfile ca.crt server.crt",
    );

    // The client's key signs another certificate: the signature is right, the signer no CA.
    done(
        directory,
        "openssl req -new -newkey rsa:2048 -nodes -subj /CN=forged -keyout forged.key -out forged.csr
         openssl x509 -req -days 30 -CAcreateserial -CA client.crt -CAkey client.key -in forged.csr -out forged.crt",
    );
    let said = refused(directory, "hnp certs inspect forged.crt client.crt ca.crt");
    assert!(
        said.contains("signed by client.crt, which cannot be a CA"),
        "{said}"
    );
}

#[test]
fn the_secret_holds_the_files_and_only_a_matching_pair() {
    let directory = directory();
    let directory = directory.path();
    done(
        directory,
        "hnp certs ca && hnp certs client && hnp certs server",
    );
    let value = |yaml: &str, key: &str| {
        let line = yaml
            .lines()
            .find_map(|line| line.strip_prefix(&format!("  {key}: ")));
        line.map(|line| line.trim_matches('"').to_owned())
    };
    let data = |yaml: &str, key: &str| {
        let encoded = value(yaml, key).unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .unwrap()
    };
    let file = |name: &str| fs::read(directory.join(name)).unwrap();

    let yaml = done(directory, "hnp certs secret");
    assert!(yaml.starts_with("apiVersion: v1\nkind: Secret\nmetadata:\n"));
    assert!(yaml.contains("\ntype: Opaque\ndata:\n"), "{yaml}");
    assert_eq!(value(&yaml, "name").as_deref(), Some("client-certificate"));
    assert_eq!(value(&yaml, "namespace"), None);
    assert_eq!(data(&yaml, "client.crt"), file("client.crt"));
    assert_eq!(data(&yaml, "client.key"), file("client.key"));

    let yaml = done(
        directory,
        "hnp certs secret --tls --ca ca.crt --namespace 123",
    );
    assert!(
        yaml.contains("\ntype: kubernetes.io/tls\ndata:\n"),
        "{yaml}"
    );
    assert!(yaml.contains("  namespace: \"123\"\n"), "{yaml}");
    assert_eq!(data(&yaml, "tls.crt"), file("client.crt"));
    assert_eq!(data(&yaml, "tls.key"), file("client.key"));
    assert_eq!(data(&yaml, "ca.crt"), file("ca.crt"));

    let said = refused(directory, "hnp certs secret --key server.key");
    assert!(
        said.contains("server.key: does not match client.crt"),
        "{said}"
    );
    let swapped = refused(directory, "hnp certs secret --cert client.key");
    assert!(
        swapped.contains("client.key: holds no certificate"),
        "{swapped}"
    );
    let output = shell(
        directory,
        "hnp certs secret --cert server.crt --key server.key",
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("no client certificate HNP can use"));
}

#[test]
fn keys_of_every_format_are_read_and_matched() {
    let directory = directory();
    let directory = directory.path();
    done(
        directory,
        "openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=rsa -keyout rsa.key -out rsa.crt
         openssl rsa -traditional -in rsa.key -out pkcs1.key
         openssl ecparam -name prime256v1 -genkey -out sec1.key
         openssl req -x509 -key sec1.key -subj /CN=ec -out ec.crt
         openssl genpkey -algorithm ed25519 -out ed.key
         openssl req -x509 -key ed.key -subj /CN=ed -out ed.crt
         openssl pkey -in rsa.key -aes256 -passout pass:x -out locked.key
         openssl rsa -traditional -in rsa.key -aes256 -passout pass:x -out old-locked.key",
    );
    let pairs = [("pkcs1.key rsa.crt", "PKCS#1"), ("ed.key ed.crt", "PKCS#8")];
    for (files, format) in pairs {
        let report = json(directory, &format!("hnp certs inspect --json {files}"));
        assert_eq!(report["errors"], serde_json::json!([]), "{report:#}");
        assert_eq!(only(&report, 0)["format"], format);
        assert_eq!(
            only(&report, 0)["certificates"].as_array().unwrap().len(),
            1
        );
    }
    // Two blocks: `EC PARAMETERS` and the key.
    let report = json(directory, "hnp certs inspect --json sec1.key ec.crt");
    let holds = &report["files"][0]["holds"];
    assert_eq!(
        (&holds[0]["kind"], &holds[1]["format"]),
        (&"other".into(), &"SEC1".into())
    );
    assert_eq!(
        holds[1]["certificates"],
        serde_json::json!(["ec.crt"]),
        "{report:#}"
    );
    for locked in ["locked.key", "old-locked.key"] {
        let said = refused(directory, &format!("hnp certs inspect {locked}"));
        assert!(said.contains("encrypted private key; ") && said.contains("openssl pkey"));
    }
    let said = refused(directory, "hnp certs inspect rsa.crt ed.key");
    assert!(
        said.contains("ed.key: the private key in it does not match rsa.crt"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_with_files_is_said_of_each() {
    let directory = directory();
    let directory = directory.path();
    done(
        directory,
        "hnp certs ca && hnp certs client --days 10 && mkdir old && cp ca.* old && hnp certs ca --force
         openssl x509 -in client.crt -outform der -out client.der
         sed 's/^M/*/' client.crt > broken.crt
         echo nothing > empty.crt
         printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' > bad.crt",
    );
    // The new CA has the old one's name.
    let said = refused(
        directory,
        "hnp certs inspect client.crt ca.crt 2>&1 >/dev/null | grep error: >&2; exit 1",
    );
    assert!(
        said.contains("has the name of ca.crt, but was signed by another key"),
        "{said}"
    );
    // With both there is nothing wrong but the days.
    let output = shell(directory, "hnp certs inspect client.crt ca.crt old/ca.crt");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        text(&output.stderr).starts_with("warning: client.crt: "),
        "{output:?}"
    );
    for (file, fault) in [
        ("missing.crt", "cannot be read"),
        ("client.der", "is DER"),
        ("broken.crt", "is not valid PEM"),
        ("empty.crt", "holds no PEM block"),
        ("bad.crt", "malformed"),
    ] {
        let said = refused(directory, &format!("hnp certs inspect ca.crt {file}"));
        assert!(said.contains(file) && said.contains(fault), "{said}");
    }
    let report = json(directory, "hnp certs inspect --json missing.crt");
    assert_eq!(report["errors"][0]["file"], "missing.crt");
}

#[test]
fn an_expired_certificate_is_a_failure_in_every_role() {
    let directory = directory();
    let directory = directory.path();
    let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    fs::write(directory.join("old.crt"), pem).unwrap();
    let said = refused(directory, "hnp certs inspect old.crt");
    assert!(
        said.contains("it expired at 2020-01-01T00:00:00Z"),
        "{said}"
    );
    let report = json(directory, "hnp certs inspect --json old.crt || true");
    for role in ["client_certificate", "server_certificate", "ca"] {
        assert_eq!(only(&report, 0)["roles"][role]["accepted"], false);
    }
}

#[test]
fn a_revocation_list_is_checked_against_its_ca() {
    let directory = directory();
    let directory = directory.path();
    done(
        directory,
        "hnp certs ca && mkdir other && hnp certs ca --dir other
         printf '[ca]\\ndefault_ca = d\\n[d]\\ndatabase = index\\ndefault_md = sha256\\ndefault_crl_days = 30\\n' > ca.cnf
         touch index
         openssl ca -gencrl -config ca.cnf -keyfile ca.key -cert ca.crt -out ca.crl",
    );
    let report = json(directory, "hnp certs inspect --json ca.crl ca.crt");
    assert_eq!(report["errors"], serde_json::json!([]), "{report:#}");
    assert_eq!(only(&report, 0)["kind"], "revocation_list");
    let said = refused(directory, "hnp certs inspect ca.crl other/ca.crt");
    assert!(
        said.contains("not signed by the CA of its issuer's name"),
        "{said}"
    );
}

#[test]
fn keys_of_other_kinds_are_made_for_each_end() {
    let directory = directory();
    let directory = directory.path();
    for (kind, named) in [
        ("p256", "prime256v1"),
        ("p384", "secp384r1"),
        ("rsa2048", "2048 bit"),
        ("rsa3072", "3072 bit"),
    ] {
        done(
            directory,
            &format!(
                "hnp certs ca --dir {kind} --key-type {kind}
                 hnp certs client --dir {kind} --key-type {kind}
                 hnp certs server --dir {kind}
                 cd {kind}; openssl verify -x509_strict -CAfile ca.crt client.crt server.crt"
            ),
        );
        let key = done(
            directory,
            &format!("openssl pkey -in {kind}/client.key -noout -text"),
        );
        assert!(key.contains(named), "{key}");
        let files = "ca.crt ca.key client.crt client.key server.crt";
        let report = json(
            directory,
            &format!("cd {kind}; hnp certs inspect --json {files}"),
        );
        assert_eq!(report["errors"], serde_json::json!([]), "{report:#}");
        let roles = &only(&report, 2)["roles"];
        assert_eq!(roles["client_certificate"]["accepted"], true, "{roles:#}");
    }
}
