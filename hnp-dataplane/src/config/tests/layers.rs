//! What is accepted, and which layer wins.

use std::path::Path;
use std::time::Duration;

use super::{Case, Flags, environment, load};
use crate::config::model::{Backend, LogFormat, Mode, PolicyMode};
use crate::config::units::{HumanDuration, PortRange, Size};
use crate::config::{Config, Place, Sources};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

fn example() -> Case {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (_, from) = document.split_once("<!-- example -->\n```toml\n").unwrap();
    let (toml, _) = from.split_once("```").unwrap();
    Case::new(toml)
        .with_file("users", "")
        .with_file("parent-password", "")
}

#[test]
fn the_documents_example_loads_and_means_what_it_says() {
    let case = example();
    let loaded = case.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let config = &loaded.config;
    assert_eq!(config.modes, [Mode::Tunnel]);
    assert_eq!(config.listener.address.len(), 2);
    let upstream = config.upstream.as_ref().unwrap();
    assert_eq!(upstream.url.as_str(), "https://app.harness.io/");
    let parent = upstream.parent.as_ref().unwrap();
    assert_eq!(parent.username.as_deref(), Some("hnp"));
    assert_eq!(parent.no_proxy, ["*.corp", "10.0.0.0/8"]);
    assert_eq!(config.policy.mode, PolicyMode::Enforce);
    assert_eq!(
        config.policy.allow[0].ports[1],
        PortRange {
            first: 8443,
            last: 8444
        }
    );
    assert_eq!(config.policy.allow[1].identities, ["runner"]);
    assert_eq!(config.policy.deny[0].hosts, ["legacy.harness.io"]);
    assert_eq!(config.limits.connections_per_client, Some(2000));
    assert_eq!(config.limits.head_size, Size(32 << 10));
    assert_eq!(
        config.timeouts.tunnel_lifetime,
        Some(HumanDuration(Duration::from_secs(7 * 86_400)))
    );
    assert_eq!(config.log.format, LogFormat::Json);

    // Paths start at the file's directory, and are what a watcher has to watch.
    let path = |name| case.directory.path().join(name);
    assert_eq!(config.auth.htpasswd, Some(path("users")));
    assert_eq!(parent.password_file, Some(path("parent-password")));
    assert_eq!(
        loaded.fingerprint.files().collect::<Vec<_>>(),
        [path("hnp.toml"), path("parent-password"), path("users")]
    );
}

#[test]
fn an_empty_file_is_the_default() {
    let loaded = Case::new("").load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[0]
            .message
            .contains("nothing can be reached")
    );
    assert!(loaded.origins.is_empty());
}

#[test]
fn proxy_url_alone_is_enough() {
    let environment = environment(&[("PROXY_URL", " https://acme.harness.io:8443 ")]);
    let loaded = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(
        loaded.config.listener.address,
        ["0.0.0.0:7777".parse().unwrap()]
    );
    let upstream = loaded.config.upstream.unwrap();
    assert_eq!(
        (upstream.url.host_str(), upstream.url.port()),
        (Some("acme.harness.io"), Some(8443))
    );
    assert!(loaded.config.policy.allow.is_empty());
    assert_eq!((loaded.warnings, loaded.file), (vec![], None));
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let toml = "workers = 1\nbackend = \"epoll\"\n[upstream]\nurl = \"https://file\"\n[upstream.parent]\nurl = \"http://p:1\"\n";
    let with = |variables: &[(&str, &str)], flags| {
        Case::new(toml)
            .with_environment(variables)
            .with_flags(flags)
            .load()
            .unwrap()
    };
    let url = |config: &Config| {
        config
            .upstream
            .as_ref()
            .unwrap()
            .url
            .host_str()
            .unwrap()
            .to_owned()
    };

    let file = with(&[], Flags::default());
    assert_eq!(url(&file.config), "file");
    assert_eq!(file.config.timeouts, Config::default().timeouts);

    let environment = with(&[("PROXY_URL", "https://environment")], Flags::default());
    assert_eq!(url(&environment.config), "environment");
    assert_eq!(
        environment.origins["upstream.url"],
        Place::Environment { name: "PROXY_URL" }
    );
    assert!(
        environment.config.upstream.unwrap().parent.is_some(),
        "what the file says beside it stays"
    );

    // A variable that a flag overrides does not matter, not even when it is wrong.
    let flags = Flags {
        listen: vec!["127.0.0.1:1".to_owned(), "[::1]:2".to_owned()],
        proxy_url: Some("https://flag".to_owned()),
        parent_proxy: Some("http://q:2".to_owned()),
        workers: Some(3),
        backend: Some("io_uring".to_owned()),
        admin: Some("off".to_owned()),
        log_format: Some("json".to_owned()),
        log_level: Some("debug".to_owned()),
    };
    let flags = with(&[("PROXY_URL", "wrong")], flags);
    let config = &flags.config;
    assert_eq!(url(config), "flag");
    assert_eq!(config.listener.address.len(), 2);
    assert_eq!(config.workers.map(usize::from), Some(3));
    assert_eq!(config.backend, Backend::IoUring);
    assert_eq!(config.admin.address, None);
    assert_eq!(
        (config.log.format, config.log.level.as_str()),
        (LogFormat::Json, "debug")
    );
    assert_eq!(
        config
            .upstream
            .as_ref()
            .unwrap()
            .parent
            .as_ref()
            .unwrap()
            .url
            .port(),
        Some(2)
    );
    assert_eq!(flags.origins["workers"], Place::Flag { name: "--workers" });
}

#[test]
fn hnp_config_names_the_file() {
    let named = environment(&[("HNP_CONFIG", "/etc/hnp/hnp.toml")]);
    assert_eq!(
        named.config_file().as_deref(),
        Some(Path::new("/etc/hnp/hnp.toml"))
    );
    assert_eq!(environment(&[("HNP_CONFIG", "")]).config_file(), None);
}

#[test]
fn report_mode_is_warned_about() {
    let loaded = Case::new("[policy]\nmode = \"report\"\n").load().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        matches!(
            loaded.warnings[0].place,
            Place::File {
                line: 2,
                column: 8,
                ..
            }
        ),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn what_is_shown_loads_to_the_same_but_for_secrets() {
    let case = example();
    let loaded = case.load().unwrap();
    let shown = loaded.to_toml().unwrap();
    let again = Case::new(&shown).load().unwrap();
    assert_eq!(again.config, loaded.config);

    let loaded = Case::new(
        "[upstream]\nurl = \"https://a\"\n[upstream.parent]\nurl = \"http://u:s3cret@p:1\"\n",
    )
    .load()
    .unwrap();
    let toml = loaded.to_toml().unwrap();
    let json = serde_json::to_string(&loaded.config.redacted()).unwrap();
    for text in [&toml, &json] {
        assert!(
            text.contains("http://u:***@p:1") && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[test]
fn what_is_shown_says_where_it_comes_from() {
    let toml = "[log]\nlevel = \"warn\"\n[[policy.allow]]\nhosts = [\"a\"]\n[[policy.allow]]\nhosts = [\"b\"]\n";
    let flags = Flags {
        workers: Some(2),
        ..Flags::default()
    };
    let case = Case::new(toml)
        .with_flags(flags)
        .with_environment(&[("PROXY_URL", "https://a")]);
    let shown = case.anonymous(&case.load().unwrap().to_toml().unwrap());
    let expected = [
        "workers = 2  # from: flag --workers",
        "url = \"https://a/\"  # from: environment variable PROXY_URL",
        "hosts = [\"a\"]  # from: hnp.toml:4",
        "hosts = [\"b\"]  # from: hnp.toml:6",
        "level = \"warn\"  # from: hnp.toml:2",
        "backend = \"auto\"",
        "access = true",
    ];
    for line in expected {
        assert!(shown.lines().any(|shown| shown == line), "{line}:\n{shown}");
    }
}
