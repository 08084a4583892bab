//! HNP's data plane.
