//! The group `configuration`: the file, and the addresses that it names.

use std::io::Write;
use std::net::{Shutdown, TcpListener};

use hnp_tests::{DEADLINE, Node, Server, exchange, node, process};

use crate::{Found, Host};

#[test]
fn a_configuration_that_cannot_be_loaded_is_2() {
    let host = Host::new("limits.conections = 5\n");
    let found = host.check(&[]);
    assert_eq!(found.code, 2);
    found.says(
        "configuration/loads",
        "failure",
        &["conections", "hnp.toml"],
    );
    let mut command = node::hnp();
    command.args(["check", "--json"]);
    let found = Found::of(&mut command);
    assert_eq!(found.code, 2);
    found.says("configuration/loads", "failure", &["PROXY_URL"]);
    let outcome = process::run(node::hnp().args(["check", "--jsn"]), DEADLINE);
    assert_eq!(outcome.status.code(), Some(2));
}

#[test]
fn a_port_that_somebody_else_has_is_a_failure() {
    let host = Host::new("");
    let _taken = TcpListener::bind(host.listener.address()).unwrap();
    host.check(&[])
        .fails("configuration/listener", &["another process", "ss -ltnp"])
        .is_ok("configuration/admin");
}

#[test]
fn ports_of_a_running_hnp_are_none() {
    let node = Node::start();
    let mut command = node::hnp();
    command
        .args(["check", "--json", "--config"])
        .arg(node.config_file());
    let found = Found::of(&mut command);
    assert_eq!(found.code, 0, "{found:#?}");
    found
        .says("configuration/running", "ok", &["running and ready"])
        .says(
            "configuration/listener",
            "ok",
            &["served by the running hnp"],
        )
        .says("configuration/admin", "ok", &["served by a running hnp"]);
}

#[test]
fn somebody_else_on_the_admin_address_is_told_apart() {
    let other = Server::start(|mut stream| {
        exchange::read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 Fine\r\n\r\n{\"ok\": true}")?;
        stream.shutdown(Shutdown::Write)
    });
    let host = Host::new("");
    let found = host.check(&["--admin", &other.address().to_string()]);
    found
        .warns("configuration/running", &["is not hnp", "200 Fine"])
        .fails("configuration/admin", &["another process"]);
}

#[test]
fn an_address_of_another_host_is_a_failure() {
    Host::new("").check(&["--listen", "192.0.2.1:7777"]).fails(
        "configuration/listener",
        &["no interface", "listener.address"],
    );
}
