//! HTTP/1 heads: parsed strictly, answered clearly.
