//! The stages of a connection, in traffic order.
