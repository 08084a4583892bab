//! The key of one direction: seals and opens single records.

use std::ops::Range;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use nix::sys::socket::sockopt::TlsCryptoInfo;
use rustls::{AlertDescription, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

use super::fault::broke;
use super::{FRAGMENT, HEADER, LONGEST, RecordError};

/// The tag that each of our ciphers adds.
const TAG: usize = 16;
/// The part of the nonce that TLS 1.2 sends along with AES-GCM (RFC 5288 section 3).
const EXPLICIT: usize = 8;
/// Content types (RFC 8446 section 5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// How records are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The type is encrypted behind the plaintext; the header is authenticated (RFC 8446 section 5.2).
    Tls13,
    /// Half of the nonce goes before the ciphertext (RFC 5288 section 3).
    Tls12Gcm,
    /// The nonce as in TLS 1.3, the rest as in TLS 1.2 (RFC 7905 section 2).
    Tls12ChaCha,
}

/// A traffic key with its sequence number, which only goes up: no nonce is ever used twice.
pub(crate) struct Key {
    key: LessSafeKey,
    /// What it was made from, for the kernel.
    secrets: ConnectionTrafficSecrets,
    iv: [u8; NONCE_LEN],
    layout: Layout,
    sequence: u64,
    limit: u64,
}

/// What a record's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Its outer type.
    pub(super) kind: u8,
    /// Length of the record, header included.
    pub(super) len: usize,
}

impl Key {
    /// The key for `secrets`, next used for record `sequence`.
    pub(crate) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
        version: ProtocolVersion,
        suite: SupportedCipherSuite,
    ) -> Result<Key, RecordError> {
        let tls13 = version == ProtocolVersion::TLSv1_3;
        let (algorithm, key, iv, layout) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (&AES_128_GCM, key, iv, Layout::Tls12Gcm)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (&AES_256_GCM, key, iv, Layout::Tls12Gcm)
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, Layout::Tls12ChaCha)
            }
            _ => return Err(RecordError::Internal("a cipher that HNP does not know")),
        };
        let unfit = |_| RecordError::Internal("a key of the wrong length");
        // Renewed in time (RFC 8446 section 5.5). TLS 1.2 cannot renew, and nobody ends its connections for it: they last until
        // the sequence number does (RFC 5246 section 6.1).
        let limit = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(_) => u64::MAX,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(unfit)?);
        let iv = iv
            .as_ref()
            .try_into()
            .map_err(|_| RecordError::Internal("an IV of the wrong length"))?;
        Ok(Key {
            key,
            iv,
            secrets,
            layout: if tls13 { Layout::Tls13 } else { layout },
            sequence,
            limit,
        })
    }

    /// Whether this is a key of TLS 1.3.
    pub(super) fn is_tls13(&self) -> bool {
        self.layout == Layout::Tls13
    }

    /// Whether another key must take over before the next record is sealed.
    pub(super) fn is_used_up(&self) -> bool {
        self.sequence >= self.limit
    }

    /// As if it had been used so often, and may be used no oftener.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, sequence: u64, limit: u64) {
        self.sequence = self.sequence.max(sequence);
        self.limit = limit;
    }

    /// As the kernel takes it: `None` where it must not have it.
    pub(in crate::tls) fn for_kernel(&self, sending: bool) -> Option<TlsCryptoInfo> {
        let version = if self.is_tls13() {
            libc::TLS_1_3_VERSION
        } else {
            libc::TLS_1_2_VERSION
        };
        let info = |cipher_type| libc::tls_crypto_info {
            version,
            cipher_type,
        };
        let rec_seq = self.sequence.to_be_bytes();
        let (salt, iv) = self.iv.split_first_chunk::<4>()?;
        let mut explicit: [u8; EXPLICIT] = iv.try_into().ok()?;
        if self.layout == Layout::Tls12Gcm && sending {
            // The kernel counts the explicit nonce up from what it is given, while we mix the sequence number into it: so that
            // it starts behind all that ours can have been.
            const OURS: u64 = (1 << 16) - 1;
            if self.sequence > OURS {
                return None;
            }
            let start = (u64::from_be_bytes(explicit) | OURS).wrapping_add(1);
            explicit = start.to_be_bytes();
        }
        Some(match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, .. } => {
                TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
                    info: info(libc::TLS_CIPHER_AES_GCM_128),
                    iv: explicit,
                    key: key.as_ref().try_into().ok()?,
                    salt: *salt,
                    rec_seq,
                })
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, .. } => {
                TlsCryptoInfo::Aes256Gcm(libc::tls12_crypto_info_aes_gcm_256 {
                    info: info(libc::TLS_CIPHER_AES_GCM_256),
                    iv: explicit,
                    key: key.as_ref().try_into().ok()?,
                    salt: *salt,
                    rec_seq,
                })
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, .. } => {
                TlsCryptoInfo::Chacha20Poly1305(libc::tls12_crypto_info_chacha20_poly1305 {
                    info: info(libc::TLS_CIPHER_CHACHA20_POLY1305),
                    iv: self.iv,
                    key: key.as_ref().try_into().ok()?,
                    salt: [],
                    rec_seq,
                })
            }
            _ => return None,
        })
    }

    /// What sealing adds to a plaintext.
    pub(super) fn overhead(&self) -> usize {
        match self.layout {
            Layout::Tls13 => HEADER + 1 + TAG,
            Layout::Tls12Gcm => HEADER + EXPLICIT + TAG,
            Layout::Tls12ChaCha => HEADER + TAG,
        }
    }

    /// Seals `plain`, of at most [`FRAGMENT`] bytes, into the beginning of `out`, which must have room for [`Key::overhead`]
    /// more. Returns the length of the record.
    pub(super) fn seal(
        &mut self,
        kind: u8,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, RecordError> {
        let sequence = self.next_sequence()?;
        let len = plain.len() + self.overhead();
        let body = u16::try_from(len - HEADER)
            .map_err(|_| RecordError::Internal("a record too long to seal"))?
            .to_be_bytes();
        let nonce = self.nonce(sequence);
        let (header, rest) = out[..len].split_at_mut(HEADER);
        let outer = if self.is_tls13() { DATA } else { kind };
        header.copy_from_slice(&[outer, 3, 3, body[0], body[1]]);
        let sealed = match self.layout {
            Layout::Tls13 => {
                let (text, tag) = rest.split_at_mut(plain.len());
                let aad = Aad::from(&*header);
                self.key
                    .seal_out_of_place_scatter(assume(nonce), aad, plain, text, &[kind], tag)
            }
            Layout::Tls12Gcm => {
                let (explicit, rest) = rest.split_at_mut(EXPLICIT);
                explicit.copy_from_slice(&nonce[NONCE_LEN - EXPLICIT..]);
                let (text, tag) = rest.split_at_mut(plain.len());
                let aad = aad12(sequence, kind, plain.len());
                self.key
                    .seal_out_of_place_scatter(assume(nonce), aad, plain, text, &[], tag)
            }
            Layout::Tls12ChaCha => {
                let (text, tag) = rest.split_at_mut(plain.len());
                let aad = aad12(sequence, kind, plain.len());
                self.key
                    .seal_out_of_place_scatter(assume(nonce), aad, plain, text, &[], tag)
            }
        };
        sealed.map_err(|_| RecordError::Internal("sealing failed"))?;
        Ok(len)
    }

    /// Reads the header that `bytes` begin with. `None`: the record is not complete yet.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Option<Header>, RecordError> {
        let &[kind, major, minor, high, low, ..] = bytes else {
            return Ok(None);
        };
        // RFC 8446 section 5.1 has the version ignored; that it is one at all tells TLS from other protocols.
        if major != 3 || !(self.is_tls13() || minor == 3) {
            let alert = AlertDescription::ProtocolVersion;
            return Err(broke(alert, "a record of another version"));
        }
        let body = usize::from(u16::from_be_bytes([high, low]));
        let longest = if self.is_tls13() {
            FRAGMENT + 256
        } else {
            LONGEST
        };
        if body > longest {
            return Err(broke(
                AlertDescription::RecordOverflow,
                "a record is too long",
            ));
        }
        let allowed = match kind {
            DATA => true,
            ALERT | HANDSHAKE => !self.is_tls13(),
            _ => false,
        };
        if !allowed {
            let what = match kind {
                CHANGE_CIPHER_SPEC => "a change of the cipher after the handshake",
                _ => "a record of a type that does not belong here",
            };
            return Err(broke(AlertDescription::UnexpectedMessage, what));
        }
        let len = HEADER + body;
        Ok((bytes.len() >= len).then_some(Header { kind, len }))
    }

    /// Where the record ends that `bytes` begin, as far as they tell: within its header they tell where that ends.
    pub(super) fn end_of_record(&self, bytes: &[u8]) -> usize {
        match bytes {
            &[_, _, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([high, low])),
            _ => HEADER,
        }
    }

    /// The part of a record that is ciphertext, without nonce and tag. Opened, it has the same length.
    pub(super) fn text(&self, header: Header) -> Result<Range<usize>, RecordError> {
        let before = match self.layout {
            Layout::Tls13 | Layout::Tls12ChaCha => HEADER,
            Layout::Tls12Gcm => HEADER + EXPLICIT,
        };
        if header.len < before + TAG {
            return Err(bad_mac());
        }
        Ok(before..header.len - TAG)
    }

    /// Opens `record` into `out`, which is as long as [`Key::text`] says. Returns the type and the length of the plaintext.
    pub(super) fn open_to(
        &mut self,
        header: Header,
        record: &[u8],
        out: &mut [u8],
    ) -> Result<(u8, usize), RecordError> {
        let text = self.text(header)?;
        let (nonce, aad) = self.opening(header, record, text.len())?;
        let (text, tag) = record[text.start..header.len].split_at(text.len());
        self.key
            .open_separate_gather(assume(nonce), Aad::from(aad.as_ref()), text, tag, out)
            .map_err(|_| bad_mac())?;
        self.strip(header, out)
    }

    /// Opens `record` where it is; the plaintext lies at [`Key::text`]. Returns as [`Key::open_to`].
    pub(super) fn open_in_place(
        &mut self,
        header: Header,
        record: &mut [u8],
    ) -> Result<(u8, usize), RecordError> {
        let text = self.text(header)?;
        let (nonce, aad) = self.opening(header, record, text.len())?;
        let (text, tag) = record[text.start..header.len].split_at_mut(text.len());
        self.key
            .open_in_place_separate_tag(assume(nonce), Aad::from(aad.as_ref()), tag, text)
            .map_err(|_| bad_mac())?;
        self.strip(header, text)
    }

    /// The nonce and the authenticated data of a record that is to be opened.
    fn opening(
        &mut self,
        header: Header,
        record: &[u8],
        text: usize,
    ) -> Result<([u8; NONCE_LEN], Additional), RecordError> {
        let sequence = self.next_sequence()?;
        let mut nonce = self.nonce(sequence);
        let aad = match self.layout {
            Layout::Tls13 => {
                let mut header = [0; HEADER];
                header.copy_from_slice(&record[..HEADER]);
                Additional::Tls13(header)
            }
            Layout::Tls12Gcm => {
                let explicit = &record[HEADER..HEADER + EXPLICIT];
                nonce[..NONCE_LEN - EXPLICIT].copy_from_slice(&self.iv[..NONCE_LEN - EXPLICIT]);
                nonce[NONCE_LEN - EXPLICIT..].copy_from_slice(explicit);
                Additional::Tls12(additional12(sequence, header.kind, text))
            }
            Layout::Tls12ChaCha => Additional::Tls12(additional12(sequence, header.kind, text)),
        };
        Ok((nonce, aad))
    }

    /// The type and the length of the plaintext within what was opened (RFC 8446 section 5.4).
    fn strip(&self, header: Header, opened: &[u8]) -> Result<(u8, usize), RecordError> {
        let (kind, len) = if self.is_tls13() {
            let Some(len) = opened.iter().rposition(|&byte| byte != 0) else {
                let what = "a record that is nothing but padding";
                return Err(broke(AlertDescription::UnexpectedMessage, what));
            };
            (opened[len], len)
        } else {
            (header.kind, opened.len())
        };
        let padded = opened.len() > FRAGMENT + usize::from(self.is_tls13());
        if len > FRAGMENT || padded {
            return Err(broke(
                AlertDescription::RecordOverflow,
                "a record is too long",
            ));
        }
        Ok((kind, len))
    }

    fn next_sequence(&mut self) -> Result<u64, RecordError> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(RecordError::Exhausted)?;
        Ok(sequence)
    }

    fn nonce(&self, sequence: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(sequence.to_be_bytes())
        {
            *byte ^= count;
        }
        nonce
    }
}

/// The data that is authenticated and not encrypted.
enum Additional {
    Tls13([u8; HEADER]),
    Tls12([u8; 13]),
}

impl AsRef<[u8]> for Additional {
    fn as_ref(&self) -> &[u8] {
        match self {
            Additional::Tls13(header) => header,
            Additional::Tls12(data) => data,
        }
    }
}

/// RFC 5246 section 6.2.3.3.
fn additional12(sequence: u64, kind: u8, len: usize) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&sequence.to_be_bytes());
    // A plaintext is at most FRAGMENT long, and one that is too long fails to open.
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    data[8..].copy_from_slice(&[kind, 3, 3, high, low]);
    data
}

fn aad12(sequence: u64, kind: u8, len: usize) -> Aad<[u8; 13]> {
    Aad::from(additional12(sequence, kind, len))
}

/// Each nonce comes from a sequence number that is used once.
fn assume(nonce: [u8; NONCE_LEN]) -> Nonce {
    Nonce::assume_unique_for_key(nonce)
}

fn bad_mac() -> RecordError {
    broke(
        AlertDescription::BadRecordMac,
        "a record that does not decrypt",
    )
}
