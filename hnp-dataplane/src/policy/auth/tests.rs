//! The authenticator as workers use it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn basic(user: &str, password: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()
}

fn file() -> Vec<u8> {
    let line =
        |user: &str, password: &str| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    (line("ann", "apple") + &line("bob", "b:anana")).into_bytes()
}

fn authenticator(threads: usize, most_running: usize) -> (Authenticator, Option<Receiver<Job>>) {
    let (authenticator, jobs) =
        Authenticator::new(Users::parse(&file()).unwrap(), "corp", most_running).unwrap();
    if threads == 0 {
        return (authenticator, Some(jobs));
    }
    start(threads, jobs).unwrap();
    (authenticator, None)
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn right_credentials_are_verified_once_and_wrong_ones_refused() {
    let (auth, _) = authenticator(1, 64);
    for _ in 0..3 {
        assert_eq!(
            &*auth.check(Some(&basic("ann", "apple"))).await.unwrap(),
            "ann"
        );
        assert_eq!(
            &*auth.check(Some(&basic("bob", "b:anana"))).await.unwrap(),
            "bob"
        );
    }
    assert_eq!(auth.verified(), 2);
    for (user, password) in [("ann", "b:anana"), ("ann", ""), ("Ann", "apple"), ("", "")] {
        let refused = auth.check(Some(&basic(user, password))).await.unwrap_err();
        assert_eq!(refused.cause, RefusedCause::Wrong, "{user}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_listed_is_worked_on_as_well() {
    let (auth, _) = authenticator(1, 64);
    let refused = auth.check(Some(&basic("eve", "apple"))).await.unwrap_err();
    assert_eq!(
        (refused.cause, refused.status(), auth.verified()),
        (RefusedCause::Wrong, 407, 1)
    );
}

#[tokio::test]
async fn what_is_missing_or_malformed_is_a_407_with_the_realm() {
    let (auth, _) = authenticator(1, 64);
    let missing = auth.check(None).await.unwrap_err();
    assert_eq!(
        (missing.cause, missing.status(), &*missing.realm),
        (RefusedCause::Missing, 407, "corp")
    );
    let malformed = auth.check(Some(b"Basic !")).await.unwrap_err();
    assert_eq!(
        malformed.to_string(),
        "the Proxy-Authorization field is not base64"
    );
    let response = String::from_utf8(Answer::from(malformed).to_bytes()).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 407 ") && response.contains("realm=\"corp\""),
        "{response}"
    );
    assert_eq!(auth.verified(), 0);
}

#[tokio::test]
async fn connections_with_the_same_credentials_share_one_verification() {
    let (auth, _) = authenticator(2, 1);
    let value = basic("ann", "apple");
    let mut all = Vec::new();
    for _ in 0..200 {
        all.push(Box::pin(auth.check(Some(&value))));
    }
    for check in &mut all {
        assert!(!matches!(poll_once(check.as_mut()), Poll::Ready(Err(_))));
    }
    assert!(auth.verified() <= 1);
    assert_eq!(&*auth.check(Some(&value)).await.unwrap(), "ann");
    assert_eq!(auth.verified(), 1);
}

#[test]
fn beyond_the_bound_it_is_a_503_and_a_lost_thread_is_one_too() {
    let (auth, jobs) = authenticator(0, 2);
    let (one, two, three) = (basic("ann", "1"), basic("ann", "2"), basic("ann", "3"));
    let (mut first, mut second) = (pin!(auth.check(Some(&one))), pin!(auth.check(Some(&two))));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    let Poll::Ready(Err(refused)) = poll_once(pin!(auth.check(Some(&three)))) else {
        panic!("it must not wait")
    };
    assert_eq!((refused.cause, refused.status()), (RefusedCause::Busy, 503));
    let response = String::from_utf8(Answer::from(refused).to_bytes()).unwrap();
    assert!(response.contains("Retry-After: 1"), "{response}");
    // The threads are gone: nobody waits for ever, and the places are free again.
    drop(jobs);
    assert!(
        matches!(poll_once(first.as_mut()), Poll::Ready(Err(refused)) if refused.cause == RefusedCause::Busy)
    );
    assert!(auth.shared.cache().is_idle());
}

#[test]
fn a_file_is_loaded_or_refused_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let config = Auth {
        htpasswd: Some(path.clone()),
        realm: None,
    };
    assert!(Authenticator::load(&Auth::default()).unwrap().is_none());
    assert!(matches!(
        Authenticator::load(&config),
        Err(AuthError::Unreadable { .. })
    ));
    fs::write(&path, file()).unwrap();
    let auth = Authenticator::load(&config).unwrap().unwrap();
    let shown = format!("{auth:?}");
    assert!(
        shown.contains("users: 2") && !shown.contains("$2"),
        "{shown}"
    );
    fs::write(&path, "# users\nann:secret\n").unwrap();
    let error = Authenticator::load(&config).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:2: user `ann`", path.display()))
            && error.contains("htpasswd -B"),
        "{error}"
    );
    assert!(!error.contains("secret"));
}

#[test]
fn threads_end_with_their_authenticator() {
    let (auth, jobs) = Authenticator::new(Users::parse(&file()).unwrap(), "corp", 1).unwrap();
    let shared = Arc::clone(&auth.shared);
    let thread = thread::spawn(move || jobs.recv().is_err());
    drop(auth);
    assert!(thread.join().unwrap());
    assert_eq!(Arc::strong_count(&shared), 1);
}
