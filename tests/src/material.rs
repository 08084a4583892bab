//! What the mTLS suites stand on: who issued whose certificates, a node that has its share of them, and a manager that has its own.

use std::sync::LazyLock;

use crate::Node;
use crate::manager::{ClientAuth, Manager, Nginx, Setup};
use crate::node::NodeBuilder;
use crate::pki::{Authority, Clients, Pair, Shown};
use crate::tls::{Tls, Versions};

/// Four authorities, none of which trusts another.
#[derive(Debug)]
pub struct Material {
    /// Who issued HNP's server certificate.
    pub hnp: Authority,
    /// That certificate: for `localhost` and 127.0.0.1.
    pub listener: Pair,
    /// Pods: HNP's clients.
    pub pods: Clients,
    /// Who issued the manager's server certificate.
    pub manager: Authority,
    /// That certificate: for `localhost` and 127.0.0.1.
    pub server: Pair,
    /// Agents: the manager's clients, HNP among them.
    pub agents: Clients,
}

impl Material {
    /// Made once for all tests of a program: an RSA key takes its time.
    #[must_use]
    pub fn shared() -> &'static Material {
        static SHARED: LazyLock<Material> = LazyLock::new(Material::new);
        &SHARED
    }

    fn new() -> Material {
        let names = ["localhost", "127.0.0.1"];
        let (hnp, manager) = (Authority::new("HNP's"), Authority::new("the manager's"));
        Material {
            listener: hnp.server(&names),
            hnp,
            pods: Clients::new("the pods'"),
            server: manager.server(&names),
            manager,
            agents: Clients::new("the agents'"),
        }
    }

    /// A manager that takes the agents.
    #[must_use]
    pub fn manager(&self, auth: ClientAuth) -> Manager {
        Manager::start(&self.setup(&[&self.agents.authority], auth))
    }

    /// nginx as a manager that takes the agents.
    #[must_use]
    pub fn nginx(&self, auth: ClientAuth) -> Nginx {
        Nginx::start(&self.setup(&[&self.agents.authority], auth))
    }

    fn setup<'a>(&'a self, clients: &'a [&'a Authority], auth: ClientAuth) -> Setup<'a> {
        Setup {
            server: &self.server,
            clients,
            auth,
            crl: Some(&self.agents.crl),
            protocols: &[],
        }
    }

    /// A node with everything that modes over TLS take: a listener that asks pods for certificates so, and `upstream`, to which it shows
    /// an agent's certificate of this kind.
    #[must_use]
    pub fn node(&self, auth: ClientAuth, upstream: &str, shows: Shown) -> NodeBuilder {
        let node = self
            .listening(auth)
            .file("manager-ca.crt", self.manager.pem());
        let node = node.config(&format!(
            "[upstream]\nurl = \"{upstream}\"\nca = \"manager-ca.crt\"\n"
        ));
        match self.agents.pair(shows) {
            None => node,
            Some(pair) => node
                .file("upstream.crt", &pair.certificate)
                .file("upstream.key", &pair.key)
                .config("[upstream]\ncertificate = \"upstream.crt\"\nkey = \"upstream.key\"\n"),
        }
    }

    /// A node with TLS on its listener and no upstream.
    #[must_use]
    pub fn listening(&self, auth: ClientAuth) -> NodeBuilder {
        let node = Node::builder()
            .file("server.crt", &self.listener.certificate)
            .file("server.key", &self.listener.key)
            .config("[listener.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n");
        if auth == ClientAuth::Off {
            return node;
        }
        node.file("pods-ca.crt", self.pods.authority.pem())
            .file("pods.crl", &self.pods.crl)
            .config(&format!(
                "[listener.tls]\nclient-auth = \"{}\"\nclient-ca = \"pods-ca.crt\"\ncrl = [\"pods.crl\"]\n",
                auth.word()
            ))
    }

    /// A pod that shows HNP this.
    #[must_use]
    pub fn pod(&self, shown: Shown, versions: Versions) -> Tls {
        Tls::of(&[&self.hnp], self.pods.pair(shown), versions)
    }

    /// An agent that shows the manager this, by way of a tunnel.
    #[must_use]
    pub fn agent(&self, shown: Shown, versions: Versions) -> Tls {
        Tls::of(&[&self.manager], self.agents.pair(shown), versions)
    }
}
