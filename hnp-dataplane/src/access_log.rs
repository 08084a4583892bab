//! One structured line for each connection.
