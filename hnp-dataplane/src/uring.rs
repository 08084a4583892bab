//! The reactor of a worker: io_uring, or epoll where io_uring is forbidden.
