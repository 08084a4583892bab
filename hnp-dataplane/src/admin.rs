//! Metrics, health and the effective configuration, on an address of their own.
