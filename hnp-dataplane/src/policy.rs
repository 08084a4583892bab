//! Who may reach what, and why.
