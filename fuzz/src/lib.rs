//! What the fuzz targets share.

pub mod certificates;
pub mod first_bytes;
pub mod framing;
pub mod oracle;
