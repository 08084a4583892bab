//! Bytes from one socket to another.
