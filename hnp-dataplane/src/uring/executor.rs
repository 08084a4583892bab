//! The executor: a queue of runnable tasks, a queue that other threads wake tasks through, timers and the driver.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use async_task::Runnable;
use pin_project_lite::pin_project;

use super::timer::Timers;
use super::{Driver, Mechanism, sys};

/// Tasks run between two looks at the kernel's queue: large enough to share the system call among many, small enough
/// that an event waits for well under a millisecond.
const TASKS_A_TURN: usize = 128;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// A single-threaded runtime, bound to the thread that made it.
pub struct Runtime {
    worker: Rc<Worker>,
}

struct Worker {
    driver: RefCell<Driver>,
    timers: RefCell<Timers>,
    ready: RefCell<VecDeque<Runnable>>,
    remote: Arc<Remote>,
    now: Cell<Instant>,
    tasks: Cell<usize>,
    before_sleep: RefCell<Option<Box<dyn FnMut()>>>,
}

/// What other threads hold of a worker, by way of its tasks' wakers.
struct Remote {
    woken: Mutex<Vec<Runnable>>,
    has_woken: AtomicBool,
    asleep: AtomicBool,
    fd: sys::WakeFd,
}

impl Runtime {
    /// A runtime that waits with `mechanism`.
    ///
    /// # Errors
    /// The kernel refuses the queue; for io_uring [`super::why_unavailable`] says why and what to do.
    pub fn new(mechanism: Mechanism) -> io::Result<Runtime> {
        let fd = sys::WakeFd::new()?;
        Ok(Runtime {
            worker: Rc::new(Worker {
                driver: RefCell::new(Driver::new(mechanism, &fd)?),
                timers: RefCell::default(),
                ready: RefCell::default(),
                remote: Arc::new(Remote {
                    woken: Mutex::default(),
                    has_woken: AtomicBool::new(false),
                    asleep: AtomicBool::new(false),
                    fd,
                }),
                now: Cell::new(Instant::now()),
                tasks: Cell::new(0),
                before_sleep: RefCell::new(None),
            }),
        })
    }

    /// Has `hook` called each time the worker is about to wait with nothing left to run: the moment to flush.
    pub fn before_sleep(&mut self, hook: impl FnMut() + 'static) {
        *self.worker.before_sleep.borrow_mut() = Some(Box::new(hook));
    }

    /// Runs `future` and what it spawns until `future` is done, then drops the tasks that are left.
    ///
    /// # Panics
    /// When called on a thread that is running a runtime already, or when the kernel refuses to wait (a defect).
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let _entered = Entered::new(&self.worker);
        let output = Rc::new(Cell::new(None));
        {
            let mut future = Box::pin(future);
            let output = Rc::clone(&output);
            self.worker.run(std::future::poll_fn(move |cx| {
                future
                    .as_mut()
                    .poll(cx)
                    .map(|value| output.set(Some(value)))
            }));
        }
        self.worker.drop_tasks();
        match output.take() {
            Some(value) => value,
            None => unreachable!("run() returns only once the future is done"),
        }
    }
}

impl Worker {
    /// The loop of a worker.
    fn run(&self, main: impl Future<Output = ()>) {
        let mut main = std::pin::pin!(main);
        let (main_woken, main_waker) = self.main_waker();
        let mut main_cx = TaskContext::from_waker(&main_waker);
        loop {
            // The one look at the clock of a turn; what the turn itself takes, timers may be late.
            self.now.set(Instant::now());
            self.fire_timers();
            if main_woken.swap(false, Ordering::AcqRel)
                && main.as_mut().poll(&mut main_cx).is_ready()
            {
                return;
            }
            self.run_tasks();
            self.take_remote();
            if self.ready.borrow().is_empty()
                && !main_woken.load(Ordering::Acquire)
                && let Some(hook) = self.before_sleep.borrow_mut().as_mut()
            {
                hook();
            }
            self.wait(&main_woken);
        }
    }

    fn run_tasks(&self) {
        for _ in 0..TASKS_A_TURN {
            let Some(runnable) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            // A defect in one connection's code ends that connection, not the worker; async-task has dropped the future.
            if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                tracing::error!(
                    "a task of this worker panicked (a defect of HNP): its connection is closed"
                );
            }
        }
    }

    fn fire_timers(&self) {
        loop {
            let due = self.timers.borrow_mut().pop_due(self.now.get());
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    fn take_remote(&self) {
        if self.remote.has_woken.swap(false, Ordering::AcqRel) {
            let woken = std::mem::take(&mut *lock(&self.remote.woken));
            self.ready.borrow_mut().extend(woken);
        }
    }

    fn wait(&self, main_woken: &AtomicBool) {
        self.remote.asleep.store(true, Ordering::SeqCst);
        let busy = !self.ready.borrow().is_empty()
            || self.remote.has_woken.load(Ordering::SeqCst)
            || main_woken.load(Ordering::SeqCst);
        let next = self.timers.borrow().next();
        let limit = next.map(|at| at.saturating_duration_since(self.now.get()));
        let turned = self.driver.borrow_mut().turn(busy, limit, &self.remote.fd);
        self.remote.asleep.store(false, Ordering::SeqCst);
        if let Err(error) = turned {
            panic!("the kernel refuses to wait for events: {error}");
        }
        // Wakers are called with the driver free, for a woken task may start or drop waits.
        loop {
            let waker = match &mut *self.driver.borrow_mut() {
                Driver::Ring(ring) => ring.pop_woken(),
                Driver::Epoll(epoll) => epoll.pop_woken(),
            };
            match waker {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    fn main_waker(&self) -> (Arc<AtomicBool>, std::task::Waker) {
        struct MainWaker {
            woken: Arc<AtomicBool>,
            remote: Arc<Remote>,
        }
        impl std::task::Wake for MainWaker {
            fn wake(self: Arc<Self>) {
                self.woken.store(true, Ordering::SeqCst);
                self.remote.end_sleep();
            }
        }
        let woken = Arc::new(AtomicBool::new(true));
        let waker = MainWaker {
            woken: Arc::clone(&woken),
            remote: Arc::clone(&self.remote),
        };
        (woken, Arc::new(waker).into())
    }

    /// Drops every task: what is runnable, and what waits, by dropping the wakers that keep it.
    fn drop_tasks(&self) {
        loop {
            self.take_remote();
            let ready = std::mem::take(&mut *self.ready.borrow_mut());
            let timers = self.timers.borrow_mut().clear();
            let waits = match &mut *self.driver.borrow_mut() {
                Driver::Ring(ring) => ring.abandon(),
                Driver::Epoll(epoll) => epoll.abandon(),
            };
            if ready.is_empty() && timers.is_empty() && waits.is_empty() {
                return;
            }
        }
    }
}

impl Remote {
    fn schedule(self: &Arc<Self>, runnable: Runnable) {
        let here = CURRENT.with_borrow(|current| match current {
            Some(worker) if Arc::ptr_eq(&worker.remote, self) => Some(Rc::clone(worker)),
            _ => None,
        });
        match here {
            Some(worker) => worker.ready.borrow_mut().push_back(runnable),
            None => {
                lock(&self.woken).push(runnable);
                self.has_woken.store(true, Ordering::SeqCst);
                self.end_sleep();
            }
        }
    }

    fn end_sleep(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.fd.wake();
        }
    }
}

/// A poisoned lock only says that some task panicked while it pushed; the queue itself is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives this thread is the worker's.
struct Entered;

impl Entered {
    fn new(worker: &Rc<Worker>) -> Entered {
        CURRENT.with_borrow_mut(|current| {
            assert!(current.is_none(), "this thread runs a runtime already");
            *current = Some(Rc::clone(worker));
        });
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let worker = CURRENT.take();
        drop(worker);
    }
}

/// Starts `future` as a task of the current worker.
///
/// # Panics
/// Outside a worker.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let worker = current();
    let remote = Arc::clone(&worker.remote);
    let task = Counted {
        future,
        _count: Count::new(&worker),
    };
    let (runnable, task) = async_task::spawn_local(task, move |runnable| remote.schedule(runnable));
    task.detach();
    runnable.schedule();
}

/// Tasks alive on the current worker.
///
/// # Panics
/// Outside a worker.
#[must_use]
pub fn task_count() -> usize {
    current().tasks.get()
}

/// The time as of this turn of the loop: at most a turn (well under a millisecond, as a rule) old, and free of cost.
/// Outside a worker, the time.
#[must_use]
pub fn now() -> Instant {
    CURRENT.with_borrow(|current| match current {
        Some(worker) => worker.now.get(),
        None => Instant::now(),
    })
}

/// Lets every other task that is ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

pin_project! {
    /// A task's future, counted. Written out, for an `async` block that awaits what it has captured holds it twice.
    struct Counted<F> {
        #[pin]
        future: F,
        _count: Count,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

struct Count(Rc<Worker>);

impl Count {
    fn new(worker: &Rc<Worker>) -> Count {
        worker.tasks.set(worker.tasks.get() + 1);
        Count(Rc::clone(worker))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
    }
}

fn current() -> Rc<Worker> {
    CURRENT.with_borrow(|current| match current {
        Some(worker) => Rc::clone(worker),
        None => panic!("not on a worker's thread: uring::Runtime::block_on makes one"),
    })
}

pub(super) fn with_driver<T>(f: impl FnOnce(&mut Driver) -> T) -> T {
    CURRENT.with_borrow(|current| match current {
        Some(worker) => f(&mut worker.driver.borrow_mut()),
        None => panic!("a socket of a worker is used outside of it"),
    })
}

/// As [`with_driver`], for drops, which may come when the worker is gone.
pub(super) fn try_with_driver(f: impl FnOnce(&mut Driver)) {
    CURRENT.with_borrow(|current| {
        if let Some(worker) = current {
            f(&mut worker.driver.borrow_mut());
        }
    });
}

pub(super) fn with_timers<T>(f: impl FnOnce(&mut Timers) -> T) -> T {
    CURRENT.with_borrow(|current| match current {
        Some(worker) => f(&mut worker.timers.borrow_mut()),
        // A timer that outlives its worker has nothing to register with or to remove.
        None => f(&mut Timers::default()),
    })
}
