//! What is refused, and in which words.

use super::{Case, Flags, environment, load};
use crate::config::{ConfigError, Place, Sources};

/// A file, and parts that its refusal must contain: the place, the key, the reason, the help.
#[rustfmt::skip]
const REFUSED: &[(&str, &[&str])] = &[
    // Keys.
    ("wokers = 2", &["hnp.toml:1:1", "unknown key `wokers`", "did you mean `workers`?"]),
    ("[timeouts]\n\ntunel-idle = \"1h\"", &["hnp.toml:3:1", "`timeouts.tunel-idle`", "did you mean `tunnel-idle`?"]),
    ("[timeouts]\ntunnel_idle = \"1h\"", &["hnp.toml:2:1", "did you mean `tunnel-idle`?"]),
    ("[limits]\nConnections = 5", &["did you mean `connections`?"]),
    ("[limits]\ntunnel-idle = \"1h\"", &["`tunnel-idle` belongs to [timeouts]"]),
    ("[log]\nworkers = 3", &["`workers` belongs to the top level"]),
    ("[admin]\ncolour = 3", &["unknown key `admin.colour`", "the keys here are `address`"]),
    ("[polcy]\nmode = \"report\"", &["hnp.toml:1:2", "unknown key `polcy`", "did you mean `policy`?"]),
    ("[[policy.alow]]\nhosts = [\"a\"]", &["unknown key `policy.alow`", "did you mean `allow`?"]),
    ("[[policy.allow]]\nhost = [\"a\"]", &["hnp.toml:2:1", "`policy.allow[0].host`", "did you mean `hosts`?"]),
    ("policy.allow = [{ hosts = [\"a\"], port = [1] }]", &["`policy.allow[0].port`", "did you mean `ports`?"]),
    // Interception.
    ("[intercept]\nfailure = \"opened\"", &["did you mean `open`?"]),
    ("[[intercept.rules]]\nhosts = [\"a\"]", &["`intercept.rules[0].action` is missing"]),
    ("[[intercept.rules]]\naction = \"tunnel\"", &["`intercept.rules[0].action`", "[upstream.parent]"]),
    ("[[intercept.rules]]\naction = \"mtls\"", &["`intercept.rules[0].action`", "[upstream]"]),
    ("[[intercept.rules]]\nports = [1]\nhosts = [\"a b\"]\naction = \"deny\"", &["`intercept.rules[0].hosts[0]`"]),
    // Types.
    ("workers = \"two\"", &["`workers`: expected a whole number from 1 to 1024, found the string \"two\""]),
    ("workers = 0", &["found the number 0"]),
    ("workers = 9999", &["from 1 to 1024"]),
    ("workers = 1.5", &["found the number 1.5"]),
    ("log = \"json\"", &["`log` is a table, not the string \"json\"", "write `[log]`"]),
    ("[policy]\nallow = \"all\"", &["`policy.allow` is a list of tables", "write `[[policy.allow]]`"]),
    ("[policy.allow]\nhosts = [\"a\"]", &["`policy.allow` is a list of tables, not a table", "write `[[policy.allow]]`"]),
    ("[policy]\nallow = [\"a\"]", &["hnp.toml:2:10", "`policy.allow[0]` is a table", "write `[[policy.allow]]`"]),
    ("[log]\naccess = \"yes\"", &["expected `true` or `false`, found the string \"yes\""]),
    ("[[policy.allow]]\nhosts = \"a\"", &["expected a list of host names", "found the string \"a\""]),
    ("[[policy.allow]]\nhosts = [\"a\", 7]", &["`policy.allow[0].hosts[1]`", "found the number 7"]),
    ("modes = []", &["at least one mode is needed"]),
    // Choices.
    ("backend = \"iouring\"", &["hnp.toml:1:11", "`iouring` is none of `auto`, `io_uring`, `epoll`", "did you mean `io_uring`?"]),
    ("backend = \"kqueue\"", &["is none of", "expected `\"auto\"`"]),
    ("modes = [\"tunnels\"]", &["`modes[0]`", "did you mean `tunnel`?"]),
    ("[policy]\nmode = \"reports\"", &["did you mean `report`?"]),
    ("[log]\nlevel = \"warning\"", &["is none of `error`, `warn`", "did you mean `warn`?"]),
    // Units.
    ("[timeouts]\nhead = 10", &["hnp.toml:2:8", "`10` has no unit: write `10s`"]),
    ("[timeouts]\nhead = \"10\"", &["write `10s`"]),
    ("[timeouts]\nhead = \"0s\"", &["`timeouts.head`: must be longer than 0"]),
    ("[timeouts]\nhead = -1", &["found the number -1", "a duration such as \"10s\""]),
    ("[timeouts]\ndrain = \"ten\"", &["`ten` is not a duration"]),
    ("[limits]\nhead-size = \"32K\"", &["`32K` is not a size"]),
    ("[limits]\nhead-size = 10", &["10B is out of range", "\"256B\" to \"1MiB\""]),
    ("[limits]\nconnections = 0", &["a whole number from 1"]),
    ("[limits]\nheaders = 5000", &["a whole number from 1 to 1000"]),
    ("[[policy.allow]]\nhosts = [\"a\"]\nports = [443, 0]", &["`policy.allow[0].ports[1]`", "`0` is not a port"]),
    ("[[policy.allow]]\nhosts = [\"a\"]\nports = [70000]", &["`70000` is not a port"]),
    ("[[policy.allow]]\nhosts = [\"a\"]\nports = [\"2-1\"]", &["ends before it starts: write `1-2`"]),
    // Addresses.
    ("[listener]\naddress = \"0.0.0.0\"", &["`0.0.0.0` is not an address", "add the port: \"0.0.0.0:7777\""]),
    ("[listener]\naddress = \":7777\"", &["write \"0.0.0.0:7777\" or \"[::]:7777\""]),
    ("[listener]\naddress = [\"127.0.0.1:1\", \"localhost:80\"]", &["hnp.toml:2:27", "`listener.address[1]`", "127.0.0.1:80"]),
    ("[listener]\naddress = \"127.0.0.1:0\"", &["port 0 cannot"]),
    ("[listener]\naddress = []", &["at least one address is needed"]),
    ("[listener]\naddress = [\"127.0.0.1:1\", \"0.0.0.0:1\"]", &["hnp.toml:2:27", "cannot both be listened on"]),
    ("[admin]\naddress = \"on\"", &["`on` is not an address", "or \"off\""]),
    ("[admin]\naddress = \"127.0.0.1:7777\"", &["hnp.toml:2:11", "the admin address `127.0.0.1:7777` is the listener's"]),
    ("[listener]\naddress = \"[::]:9777\"", &["the admin address", "give it a port of its own"]),
    ("[dns]\nservers = [\"10.0.0.2\"]", &["`dns.servers[0]`", "is not an address"]),
    // Names and networks.
    ("[[policy.allow]]\nhosts = [\"https://a.io/x\"]", &["it has a scheme", "write \"a.io\""]),
    ("[[policy.allow]]\nhosts = [\"a.io:443\"]", &["it has a port", "write \"a.io\" here and 443 in `ports`"]),
    ("[[policy.allow]]\nhosts = [\"a.io/x\"]", &["it has a path"]),
    ("[[policy.allow]]\nhosts = [\"10.0.0.0/8\"]", &["is not a host name", "go into `cidrs`"]),
    ("[[policy.allow]]\nhosts = [\".a.io\"]", &["it starts with a dot", "write \"*.a.io\""]),
    ("[[policy.allow]]\nhosts = [\"a.*.io\"]", &["`*` stands alone or in a leading `*.`"]),
    ("[[policy.allow]]\nhosts = [\"*a.io\"]", &["`*` stands alone or in a leading `*.`"]),
    ("[[policy.allow]]\nhosts = [\"\"]", &["it is not a name"]),
    ("[[policy.allow]]\nhosts = [\"a..io\"]", &["a label is 1 to 63"]),
    ("[[policy.deny]]\nhosts = [\"127.1\"]", &["it looks like an address"]),
    ("[[policy.deny]]\nhosts = [\"a b\"]", &["it is not a name"]),
    ("[[policy.allow]]\ncidrs = [\"2002::/16\"]", &["hnp.toml:1:", "name that IPv4 range instead"]),
    ("[[policy.allow]]\ncidrs = [\"10.0.0.1\"]", &["is an address, not a network", "\"10.0.0.1/32\""]),
    ("[[policy.deny]]\ncidrs = [\"10.1.2.3/8\"]", &["bits set beyond its prefix", "\"10.0.0.0/8\" for the network"]),
    ("[[policy.allow]]\ncidrs = [\"10.0.0.0/33\"]", &["is not a network"]),
    ("[[policy.allow]]\nports = [443]", &["hnp.toml:1:", "the rule `policy.allow[0]` names no target"]),
    ("[[policy.deny]]\nhosts = []", &["the rule `policy.deny[0]` names no target"]),
    ("[[policy.allow]]\nhosts = [\"a\"]\nidentities = [\"u\"]", &["hnp.toml:3:", "needs `auth.htpasswd`"]),
    ("[[policy.allow]]\nhosts = [\"a\"]\nidentities = [\"\"]", &["an identity cannot be empty"]),
    // Urls.
    ("[upstream]\nurl = \"app.harness.io\"", &["`app.harness.io` has no scheme", "write \"https://app.harness.io\""]),
    ("[upstream]\nurl = \"app.harness.io:8443\"", &["has no scheme", "write \"https://app.harness.io:8443\""]),
    ("[upstream]\nurl = \"ftp://a\"", &["the scheme `ftp` is neither http nor https"]),
    ("[upstream]\nurl = \"https://\"", &["is not a url: empty host"]),
    ("[upstream]\nurl = \"https://a:0\"", &["port 0 cannot be dialled"]),
    ("[upstream]\nurl = \"https://u:p@a\"", &["credentials have no meaning", "https://u:*@a"]),
    ("[upstream]\nurl = \"https://a/?token=x\"", &["a query or fragment"]),
    ("[upstream]\n", &["hnp.toml:1:", "`upstream.url` is missing", "or set PROXY_URL"]),
    ("[upstream.parent]\nurl = \"http://p:1\"", &["`upstream.url` is missing"]),
    ("[upstream]\nurl = \"http://a\"\n[upstream.parent]\nno-proxy = []", &["`upstream.parent.url` is missing", "hnp.toml:3:"]),
    ("[upstream]\nurl = \"http://a\"\n[upstream.parent]\nurl = \"http://p:1/x\"", &["a proxy's url has no path"]),
    ("[upstream]\nurl = \"http://a\"\n[upstream.parent]\nurl = \"http://p:1\"\nusername = \"u\"", &["needs `password-file`", "hnp.toml:5:"]),
    ("[upstream]\nurl = \"http://a\"\n[upstream.parent]\nurl = \"http://p:1\"\nno-proxy = [\"http://x\"]", &["`upstream.parent.no-proxy[0]`", "it has a scheme"]),
    // TLS: keys and values.
    ("[listener.tls]\nkey = \"server.key\"", &["hnp.toml:1:", "`listener.tls.certificate` is missing: [listener.tls] needs it"]),
    ("[listener.tls]\ncertificate = \"a\"\nclient-auth = \"on\"", &["hnp.toml:3:15", "`on` is none of `off`, `loose`, `strict`"]),
    ("[listener.tls]\ncertificate = \"a\"\nclient_auth = \"loose\"", &["did you mean `client-auth`?"]),
    ("[listener.tls]\ncertificate = \"a\"\nmin-version = \"1.1\"", &["`1.1` is none of `1.2`, `1.3`"]),
    ("[listener.tls]\ncertificate = \"a\"\nmin-version = 1.3", &["expected `\"1.2\"` or `\"1.3\"`, found the number 1.3"]),
    ("[listener.tls]\ncertificate = \"a\"\nclient-ca = [\"a\", 1]", &["hnp.toml:3:19", "`listener.tls.client-ca[1]`", "found the number 1"]),
    ("[listener]\ncertificate = \"a\"", &["`certificate` belongs to [listener.tls]"]),
    ("[upstream]\nurl = \"https://a\"\nprotocol = \"http2\"", &["`http2` is none of `auto`, `http1`, `h2`"]),
    ("[upstream]\nurl = \"https://a\"\nserver-name = \"a:443\"", &["`a:443` is not a DNS name: it has a port", "write \"a\""]),
    ("[upstream]\nurl = \"https://a\"\nserver-name = \"*.a.io\"", &["wildcards are not served"]),
    ("[reverse-proxy]\nprefix = \"x\"", &["does not start with `/`", "write \"/x\""]),
    ("[reverse-proxy]\nprefix = \"/x?a=b\"", &["hnp.toml:2:10", "a query or fragment", "write \"/x\""]),
    ("[reverse-proxy]\nprefix = \"/x/\"", &["it ends in `/`", "write \"/x\""]),
    ("[reverse-proxy]\nprefix = \"/a/../b\"", &["a segment of dots"]),
    ("[reverse-proxy]\nprefix = \"//a\"", &["an empty segment"]),
    ("[reverse-proxy]\nprefix = \"/a%2fb\"", &["'%' cannot stand in it"]),
    ("[limits]\nhandshakes = 0", &["a whole number from 1"]),
    ("[timeouts]\nhandshake = \"0s\"", &["must be longer than 0"]),
    ("[timeouts]\nupstream-idle = 60", &["`60` has no unit"]),
    // TLS: what contradicts itself.
    ("modes = [\"tunnel\", \"reverse-proxy\"]", &["hnp.toml:1:20", "the mode `reverse-proxy` needs an upstream"]),
    ("modes = [\"end-to-end-mtls\"]\n[upstream]\nurl = \"https://a\"", &["hnp.toml:1:10", "needs [listener.tls] with a `client-auth`"]),
    ("modes = [\"end-to-end-mtls\"]\n[upstream]\nurl = \"https://a\"\n[listener.tls]\ncertificate = \"pem\"\nkey = \"pem\"", &["hnp.toml:1:10", "needs [listener.tls] with a `client-auth`"]),
    ("[listener.tls]\ncertificate = \"pem\"\nkey = \"pem\"\nclient-auth = \"strict\"", &["hnp.toml:4:15", "`listener.tls.client-auth` is \"strict\", and there is no `client-ca`"]),
    ("[listener.tls]\ncertificate = \"pem\"", &["hnp.toml:2:15", "`listener.tls.certificate` needs `listener.tls.key`"]),
    ("[listener.tls]\ncertificate = \"missing\"\nkey = \"pem\"", &["hnp.toml:2:15", "`listener.tls.certificate`: cannot read missing"]),
    ("[listener.tls]\ncertificate = \"pem\"\nkey = \"pem\"\nclient-auth = \"loose\"\nclient-ca = \"pem\"\ncrl = \".\"", &["hnp.toml:6:7", "`listener.tls.crl`: cannot read", "it is a directory"]),
    ("[listener.tls]\ncertificate = \".\"", &["hnp.toml:2:15", "holds neither `tls.crt` nor `client.crt`"]),
    ("[upstream]\nurl = \"https://a\"\ncertificate = \"pem\"", &["hnp.toml:3:15", "`upstream.certificate` needs `upstream.key`"]),
    ("[upstream]\nurl = \"https://a\"\nkey = \"pem\"", &["hnp.toml:3:7", "`upstream.key` needs `upstream.certificate`"]),
    ("[upstream]\nurl = \"https://a\"\nca = [\"pem\", \"missing\"]", &["hnp.toml:3:14", "`upstream.ca[1]`: cannot read missing"]),
    ("[upstream]\nurl = \"http://a\"\nca = \"pem\"", &["hnp.toml:3:6", "`upstream.ca` has no meaning: `upstream.url` is http://"]),
    ("[upstream]\nurl = \"http://a\"\nserver-name = \"b\"", &["`upstream.server-name` has no meaning"]),
    ("[upstream]\nurl = \"https://a\"\n[upstream.parent]\nurl = \"http://p:1\"\nca = \"pem\"", &["hnp.toml:5:6", "`upstream.parent.url` is http://"]),
    ("[upstream]\nurl = \"https://a\"\n[upstream.parent]\nurl = \"https://p:1\"\nkey = \"pem\"", &["`upstream.parent.key` needs `upstream.parent.certificate`"]),
    // Endpoints.
    ("[[endpoints]]\ncertificate = \"a\"", &["hnp.toml:1:", "`endpoints[0].server-name` is missing: [[endpoints]] needs it", "`endpoints[0].prefix` is missing", "`endpoints[0].upstream` is missing"]),
    ("[[endpoints]]\nserver-name = \"10.0.0.1\"", &["hnp.toml:2:15", "it is an address"]),
    ("[[endpoints]]\nserver-name = \"a.io.\"", &["it ends in a dot", "write \"a.io\""]),
    ("[[endpoints]]\nserver-name = \"größe.io\"", &["it is not ASCII", "write \"xn--gre-6ka8i.io\""]),
    ("[[endpoints]]\nserver-name = \"a b\"", &["`a b` is not a DNS name"]),
    ("[[endpoints]]\nupstream = \"10.0.0.5:8080\"", &["`endpoints[0].upstream`", "has no scheme"]),
    (ENDPOINTS_OF_ONE_NAME, &["hnp.toml:8:15", "`endpoints[1]` and `endpoints[0]` have the same server name `a.io`"]),
    (ENDPOINTS_OF_ONE_PREFIX, &["hnp.toml:11:10", "`endpoints[1]` (`b.io`) and `endpoints[0]` (`a.io`) have the same prefix `/a`"]),
    (ENDPOINTS_NESTED, &["hnp.toml:11:10", "`endpoints[1]` (`b.io`) and `endpoints[0]` (`a.io`) have the prefixes `/a/b` and `/a`, of which one lies beneath the other"]),
    (ENDPOINT_WITHOUT_CA, &["hnp.toml:7:15", "`endpoints[0].client-auth` is \"loose\", and there is no `client-ca`"]),
    (ENDPOINT_TO_PLAINTEXT, &["hnp.toml:7:15", "`endpoints[0].upstream-ca` has no meaning: `endpoints[0].upstream` is http://"]),
    // Bounds and files.
    ("[limits]\nhead-size = \"1KiB\"", &["`limits.request-line-size` (8KiB) is more than `limits.head-size` (1KiB)"]),
    ("[dns]\nmin-ttl = \"10m\"", &["hnp.toml:2:11", "`dns.min-ttl` (10m) is more than `dns.max-ttl` (5m)"]),
    ("[auth]\nhtpasswd = \"missing\"", &["hnp.toml:2:12", "cannot read missing"]),
    ("[auth]\nhtpasswd = \".\"", &["it is a directory"]),
    ("[auth]\nrealm = \"a\\\"b\"", &["cannot stand here"]),
    // Not TOML.
    ("[listener\naddress = 1", &["hnp.toml:1:", "this is not TOML"]),
    ("workers = 1\nworkers = 2", &["hnp.toml:2:1", "this is not TOML", "duplicate key"]),
    ("workers =", &["this is not TOML"]),
];

const ENDPOINTS_OF_ONE_NAME: &str = "[[endpoints]]\nserver-name = \"A.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"http://u\"\n[[endpoints]]\nserver-name = \"a.IO\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/ab\"\nupstream = \"http://u\"";
const ENDPOINTS_OF_ONE_PREFIX: &str = "[[endpoints]]\nserver-name = \"a.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"http://u\"\n[[endpoints]]\nserver-name = \"b.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"http://u\"";
const ENDPOINTS_NESTED: &str = "[[endpoints]]\nserver-name = \"a.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"http://u\"\n[[endpoints]]\nserver-name = \"b.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a/b\"\nupstream = \"http://u\"";
const ENDPOINT_WITHOUT_CA: &str = "[[endpoints]]\nserver-name = \"a.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"https://u\"\nclient-auth = \"loose\"";
const ENDPOINT_TO_PLAINTEXT: &str = "[[endpoints]]\nserver-name = \"a.io\"\ncertificate = \"pem\"\nkey = \"pem\"\nprefix = \"/a\"\nupstream = \"http://u\"\nupstream-ca = \"pem\"";

#[test]
fn each_mistake_is_refused_with_its_place_and_its_remedy() {
    for (toml, parts) in REFUSED {
        let text = Case::new(toml).with_file("pem", "").refused();
        for part in *parts {
            assert!(
                text.contains(part),
                "{toml}\n\nshould be refused with {part:?}, and is with\n\n{text}"
            );
        }
        assert!(
            text.contains(" = help: ") || text.contains("not TOML"),
            "no help:\n{text}"
        );
    }
}

#[test]
fn one_run_names_every_mistake() {
    let case = Case::new(
        "wokers = 2\n\n[timeouts]\nhead = 10\n\n[[policy.allow]]\nhosts = [\"a.io:443\", \"*\", \"b.*\"]\n\tports = [0]\n",
    );
    let case = case.with_environment(&[("PROXY_URL", "app.harness.io")]);
    let expected = "\
error: unknown key `wokers`: there is no `wokers` at the top level
 --> hnp.toml:1:1
  |
1 | wokers = 2
  | ^^^^^^
  = help: did you mean `workers`?

error: `timeouts.head`: `10` has no unit: write `10s`, or `ms`, `m`, `h`, `d`
 --> hnp.toml:4:8
  |
4 | head = 10
  |        ^^
  = help: expected a duration such as \"10s\", longer than 0

error: `policy.allow[0].hosts[0]`: `a.io:443` is not a host pattern: it has a port
 --> hnp.toml:7:10
  |
7 | hosts = [\"a.io:443\", \"*\", \"b.*\"]
  |          ^^^^^^^^^^
  = help: write \"a.io\" here and 443 in `ports`

error: `policy.allow[0].hosts[2]`: `b.*` is not a host pattern: `*` stands alone or in a leading `*.`
 --> hnp.toml:7:27
  |
7 | hosts = [\"a.io:443\", \"*\", \"b.*\"]
  |                           ^^^^^
  = help: expected a list of host names, `\"*.example.com\"` or `\"*\"`

error: `policy.allow[0].ports[0]`: `0` is not a port: write 1 to 65535, or a range such as `9000-9999`
 --> hnp.toml:8:11
  |
8 | \tports = [0]
  | \t         ^
  = help: expected a list of ports such as 443 and ranges such as \"9000-9999\"

error: `upstream.url`: `app.harness.io` has no scheme
 --> environment variable PROXY_URL
  = help: write \"https://app.harness.io\"";
    assert_eq!(case.refused(), expected);
    let summary = case.anonymous(&case.load().unwrap_err().summary());
    assert_eq!(
        summary,
        "hnp.toml:1:1: unknown key `wokers`: there is no `wokers` at the top level; did you mean `workers`? (and 5 more)"
    );
}

#[test]
fn nothing_at_all_says_what_to_do() {
    let error = load(&Sources::default()).unwrap_err();
    assert!(matches!(error, ConfigError::Nothing));
    let text = error.to_string();
    assert!(
        text.contains("PROXY_URL=https://app.harness.io hnp run"),
        "{text}"
    );
    assert!(text.contains("--config"), "{text}");

    let flags = Flags {
        listen: vec!["127.0.0.1:7777".to_owned()],
        ..Flags::default()
    };
    let error = load(&Sources {
        flags,
        ..Sources::default()
    })
    .unwrap_err();
    assert!(matches!(error, ConfigError::Nothing), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let file = Some("/nonexistent/hnp.toml".into());
    let environment = environment(&[("PROXY_URL", "https://a")]);
    let error = load(&Sources {
        file,
        environment,
        flags: Flags::default(),
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cannot read the configuration file /nonexistent/hnp.toml"),
        "{text}"
    );
    let files: Vec<_> = error.fingerprint().files().map(ToOwned::to_owned).collect();
    assert_eq!(files, [std::path::PathBuf::from("/nonexistent/hnp.toml")]);
    assert!(
        error.summary().starts_with("cannot read"),
        "{}",
        error.summary()
    );
}

#[test]
fn mistakes_of_flags_name_the_flag() {
    let flags = Flags {
        listen: vec!["127.0.0.1:80".to_owned(), "127.0.0.1".to_owned()],
        workers: Some(0),
        backend: Some("poll".to_owned()),
        admin: Some("127.0.0.1:80".to_owned()),
        ..Flags::default()
    };
    let text = Case::new("").with_flags(flags).refused();
    for part in [
        "flag --listen",
        "`listener.address[1]`",
        "127.0.0.1:7777",
        "flag --workers",
        "flag --backend",
        "did you mean `epoll`?",
    ] {
        assert!(text.contains(part), "{part:?}:\n{text}");
    }
    let flags = Flags {
        admin: Some("127.0.0.1:7777".to_owned()),
        ..Flags::default()
    };
    let error = Case::new("").with_flags(flags).load().unwrap_err();
    assert_eq!(
        error.diagnostics()[0].place,
        Place::Flag { name: "--admin" },
        "{error}"
    );
}

#[test]
fn a_password_is_never_repeated() {
    let secrets = [
        "http://u:s3cret@p:1/x",
        "http://u:s3c/ret@p:1",
        "https://u:s3cret@p:1/x",
        "ftp://u:s3\\\"cret@p",
        "http://u:s3 cret@p:0",
    ];
    for secret in secrets {
        let parent =
            format!("[upstream]\nurl = \"https://a\"\n[upstream.parent]\nurl = \"{secret}\"\n");
        let upstream = format!("[upstream]\nurl = \"{secret}\"\n");
        for toml in [parent, upstream] {
            let error = Case::new(&toml).load().expect_err(&toml);
            let json = serde_json::to_string(error.diagnostics()).unwrap();
            for text in [error.to_string(), error.summary(), json] {
                assert!(!text.contains("s3") && !text.contains("cret"), "{text}");
            }
        }
    }
    let text = Case::new("")
        .with_environment(&[("PROXY_URL", "https://u:s3cret@a")])
        .refused();
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn places_survive_what_is_not_ascii() {
    let text = Case::new("# größer\n[log]\nlevel = \"größer\" # ä\n").refused();
    assert!(
        text.contains("hnp.toml:3:9")
            && text.contains("3 | level = \"größer\" # ä\n  |         ^^^^^^^^\n"),
        "{text}"
    );
}

#[test]
fn a_refusal_knows_the_files_whose_change_may_mend_it() {
    let case = Case::new("[auth]\nhtpasswd = \"users\"\n");
    let error = case.load().unwrap_err();
    let path = |name| case.directory.path().join(name);
    assert_eq!(
        error.fingerprint().files().collect::<Vec<_>>(),
        [path("hnp.toml"), path("users")]
    );
    assert_eq!(error.fingerprint(), error.fingerprint().again());
    let case = case.with_file("users", "");
    assert_ne!(error.fingerprint(), error.fingerprint().again());
    case.load().unwrap();
}
