//! The eBPF object that the build embedded.

use super::RedirectError;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hnp-ebpf.o"));
const MISSING: &str = include_str!(concat!(env!("OUT_DIR"), "/hnp-ebpf.missing"));

/// The object; or why the build had to do without, and what to do about it.
pub(super) fn embedded() -> Result<&'static [u8], RedirectError> {
    if MISSING.is_empty() {
        Ok(OBJECT)
    } else {
        Err(RedirectError::NotBuilt { why: MISSING })
    }
}
