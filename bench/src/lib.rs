//! Load generator, peers and the report of `cargo xtask run` and `cargo xtask bench`.
