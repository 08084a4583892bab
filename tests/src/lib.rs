//! The node under test and what surrounds it: fake upstreams, real clients, measurements of leaks.
