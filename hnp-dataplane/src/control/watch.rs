//! Notices that a file's contents changed, however they were changed.
