//! The signature under a certificate or a revocation list.

use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{Error, RawPublicKeyEntity, UnsupportedSignatureAlgorithmContext};

/// Whether `signature` over `message` is by `key`. `algorithm` is the inside of the `AlgorithmIdentifier` beside it.
///
/// # Errors
/// `InvalidSignatureForPublicKey`: it is not. `UnsupportedSignatureAlgorithmContext`: it is of a kind that no longer counts (SHA-1, MD5),
/// or not yet.
pub(super) fn verify(
    key: &SubjectPublicKeyInfoDer<'_>,
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
    supported: &[&dyn SignatureVerificationAlgorithm],
) -> Result<(), Error> {
    let key = RawPublicKeyEntity::try_from(key)?;
    let mut known = false;
    for candidate in supported {
        if candidate.signature_alg_id().as_ref() != algorithm {
            continue;
        }
        known = true;
        match key.verify_signature(*candidate, message, signature) {
            // Of the same kind, on another curve.
            Err(Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            result => return result,
        }
    }
    match known {
        true => Err(Error::InvalidSignatureForPublicKey),
        false => Err(Error::UnsupportedSignatureAlgorithmContext(
            UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: algorithm.to_vec(),
                supported_algorithms: supported.iter().map(|one| one.signature_alg_id()).collect(),
            },
        )),
    }
}
