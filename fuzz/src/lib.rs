//! What the fuzz targets share.

pub mod first_bytes;
pub mod oracle;
