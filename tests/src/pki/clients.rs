//! The certificates that clients come with, good and bad.

use super::authority::{Authority, Leaf, Pair};

/// What a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// One of the authority's.
    Valid,
    /// One of the authority's that ended yesterday.
    Expired,
    /// One of another authority.
    Stranger,
    /// One of another authority that has this one's name.
    Impostor,
    /// One that the authority has revoked.
    Revoked,
    /// One of the authority's, of X.509 v1.
    V1,
}

impl Shown {
    /// All of them.
    pub const ALL: [Shown; 7] = [
        Shown::Nothing,
        Shown::Valid,
        Shown::Expired,
        Shown::Stranger,
        Shown::Impostor,
        Shown::Revoked,
        Shown::V1,
    ];
}

/// An authority and a certificate of each kind.
#[derive(Debug)]
pub struct Clients {
    /// Who issued the good ones.
    pub authority: Authority,
    /// What it has revoked, in PEM.
    pub crl: String,
    pairs: Vec<(Shown, Pair)>,
}

impl Clients {
    /// Makes all.
    #[must_use]
    pub fn new(name: &str) -> Clients {
        let authority = Authority::new(name);
        let revoked = authority.client("revoked");
        let expired = authority.issue(&Leaf {
            name: "expired",
            from: -30,
            until: -1,
            ..Leaf::default()
        });
        Clients {
            crl: authority.crl(&[&revoked]),
            pairs: vec![
                (Shown::Valid, authority.client("valid")),
                (Shown::Expired, expired),
                (
                    Shown::Stranger,
                    Authority::new("somebody else").client("stranger"),
                ),
                (Shown::Impostor, Authority::new(name).client("impostor")),
                (Shown::Revoked, revoked),
                (Shown::V1, authority.v1_client("v1")),
            ],
            authority,
        }
    }

    /// The certificate of this kind.
    #[must_use]
    pub fn pair(&self, shown: Shown) -> Option<&Pair> {
        self.pairs
            .iter()
            .find(|(kind, _)| *kind == shown)
            .map(|(_, pair)| pair)
    }

    /// The good certificate of the usual kind.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn valid(&self) -> &Pair {
        self.pair(Shown::Valid).unwrap()
    }
}
