//! Real clients, which know nothing of a proxy.

use super::*;

fn without_proxies(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "100"]);
    without_proxies(&mut curl);
    curl
}

#[test]
fn curl_downloads_a_gibibyte() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let seed = random::seed() >> 32;
    for kind in ["bytes", "chunked"] {
        let mut curl = curl();
        curl.arg(format!("{}/{kind}/{seed}/{GIB}", node.url()));
        let report = |received: &Received| format!("{received:?}").into_bytes();
        let outcome = process::run_with(&mut curl, LIMIT, Stdio::null(), move |stdout| {
            report(&receive(stdout))
        });
        assert_eq!(
            outcome.success().into_bytes(),
            report(&expected(seed, GIB)),
            "{kind}"
        );
    }
}

#[test]
fn a_gibibyte_goes_up() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let seed = random::seed() >> 32;
    let mut client = open(&node);
    write!(
        client,
        "POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: {GIB}\r\n\r\n"
    )
    .unwrap();
    hnp_tests::server::send_random(&mut client, seed, GIB).unwrap();
    let response = read_response(&mut client).unwrap();
    assert_eq!(
        (response.status, response.text()),
        (200, expected(seed, GIB).digest)
    );
}

#[test]
fn curl_uploads_with_a_length_and_in_chunks() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let file = node.directory().join("upload");
    let content = random::Random::new(random::seed()).bytes(10_000_019);
    fs::write(&file, &content).unwrap();
    for coding in ["", "Transfer-Encoding: chunked"] {
        let mut curl = curl();
        curl.args(["--header", coding, "--upload-file"]).arg(&file);
        curl.arg(format!("{}/digest", node.url()));
        let digest = process::run(&mut curl, LIMIT).success();
        assert_eq!(digest, hex(&Sha256::digest(&content)), "{coding}");
    }
}

fn python(library: &str, node: &Node, seed: u64) -> String {
    let program = bin::target_directory().join("venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: run `cargo xtask test`",
        program.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/reverse_client.py");
    let mut command = Command::new(program);
    command
        .arg("-B")
        .arg(script)
        .args([library, &node.url(), &seed.to_string()]);
    process::run(without_proxies(&mut command), LIMIT).success()
}

#[test]
fn python_clients() {
    let server = origin::plain();
    let node = before(&server, "", "");
    let seed = random::seed() >> 32;
    let download = expected(seed, 1_000_003).digest;
    let upload: Vec<u8> = (0..1 << 20).map(|i: u32| i as u8).collect();
    let upload = hex(&Sha256::digest(upload));
    for library in ["requests", "httpx"] {
        let output = python(library, &node, seed);
        let reported: BTreeMap<&str, &str> = output
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let all = [
            ("http", download.as_str()),
            ("chunked", &download),
            ("until-close", &download),
            ("upload-http", &upload),
            ("upload-http-chunked", &upload),
            ("events", "50"),
        ];
        assert_eq!(reported, BTreeMap::from(all), "{library}");
    }
}

#[test]
fn python_websockets() {
    let server = origin::plain();
    let node = before(&server, "", "");
    assert_eq!(
        python("websockets", &node, random::seed() >> 32).trim(),
        "websockets 50"
    );
}
