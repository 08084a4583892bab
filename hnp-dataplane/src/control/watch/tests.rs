//! Real files, changed in every way that is known to have broken a watcher.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Watcher, directories};
use crate::config::Fingerprint;

/// Long enough that a loaded machine does not fail the test; a change ends the wait at once.
const SOON: Duration = Duration::from_secs(20);

/// What is written within this time belongs together.
const TOGETHER: Duration = Duration::from_millis(500);

struct Case {
    directory: TempDir,
    runtime: Runtime,
}

impl Case {
    fn new() -> Case {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Case { directory, runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        // Resolved, so that the expectations of directories hold where the temporary directory is behind a link.
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// As [`Case::watch`], of files that go together.
    fn watch_tls(&self, files: &[&Path]) -> Watcher {
        let watcher = self.watch(files);
        let files = files.iter().map(|file| (*file).to_owned());
        watcher.watch(Fingerprint::of(files.clone()).with_tls(files));
        watcher
    }

    /// A watcher that is known to be watching: it has reported the difference to a wrong fingerprint.
    fn watch(&self, files: &[&Path]) -> Watcher {
        let files: Vec<PathBuf> = files.iter().map(|file| (*file).to_owned()).collect();
        // All files were missing when this was taken.
        let hidden: Vec<(PathBuf, PathBuf)> = files
            .iter()
            .filter(|file| fs::symlink_metadata(file).is_ok())
            .map(|file| {
                (
                    file.clone(),
                    file.with_file_name(format!("hidden-{}", file.file_name().unwrap().display())),
                )
            })
            .collect();
        for (file, elsewhere) in &hidden {
            fs::rename(file, elsewhere).unwrap();
        }
        let known = Fingerprint::of(files);
        for (file, elsewhere) in &hidden {
            fs::rename(elsewhere, file).unwrap();
        }
        let watcher = Watcher::start(known).unwrap();
        self.expect(&watcher, "the difference to what was known at start");
        watcher
    }

    fn expect(&self, watcher: &Watcher, what: &str) {
        let changed = async { timeout(SOON, watcher.changed()).await };
        self.runtime
            .block_on(changed)
            .unwrap_or_else(|_| panic!("not noticed: {what}"));
    }

    /// Makes sure that nothing has been reported: does something, then a real change elsewhere, which must be the only report.
    fn expect_none(&self, watcher: &Watcher, marker: &Path, what: &str) {
        // By rename: a look between truncation and writing would make two changes of it.
        let next = marker.with_extension("next");
        fs::write(&next, format!("{:?}", std::time::Instant::now())).unwrap();
        fs::rename(next, marker).unwrap();
        self.expect(watcher, "the marker");
        let again = async { timeout(super::QUIET * 4, watcher.changed()).await };
        assert!(
            self.runtime.block_on(again).is_err(),
            "noticed twice: {what}"
        );
    }
}

#[test]
fn every_way_of_writing_is_noticed() {
    let case = Case::new();
    let file = case.write("hnp.toml", "a");
    let watcher = case.watch(&[&file]);

    fs::write(&file, "in place").unwrap();
    case.expect(&watcher, "written in place");

    let other = case.write("hnp.toml.new", "renamed over");
    fs::rename(other, &file).unwrap();
    case.expect(&watcher, "renamed over");

    fs::write(&file, "in place again").unwrap();
    case.expect(&watcher, "written in place after the inode changed");

    fs::remove_file(&file).unwrap();
    case.expect(&watcher, "removed");

    fs::write(&file, "made anew").unwrap();
    case.expect(&watcher, "made anew");
}

#[test]
fn a_config_map_swap_is_noticed_again_and_again() {
    let case = Case::new();
    // As the kubelet lays it out: hnp.toml -> ..data/hnp.toml, ..data -> ..version.
    case.write("..v1/hnp.toml", "1");
    symlink("..v1", case.path("..data")).unwrap();
    symlink("..data/hnp.toml", case.path("hnp.toml")).unwrap();
    let file = case.path("hnp.toml");
    let watcher = case.watch(&[&file]);
    for version in 2..5 {
        case.write(&format!("..v{version}/hnp.toml"), &version.to_string());
        symlink(format!("..v{version}"), case.path("..data_tmp")).unwrap();
        fs::rename(case.path("..data_tmp"), case.path("..data")).unwrap();
        fs::remove_dir_all(case.path(&format!("..v{}", version - 1))).unwrap();
        case.expect(&watcher, &format!("version {version}"));
        assert_eq!(fs::read_to_string(&file).unwrap(), version.to_string());
    }
    case.write("..v4/hnp.toml", "in place behind both links");
    case.expect(&watcher, "in place behind both links");
}

#[test]
fn a_link_elsewhere_and_a_linked_directory_are_followed() {
    let case = Case::new();
    case.write("elsewhere/real.toml", "1");
    case.write("other/real.toml", "2");
    symlink(case.path("elsewhere"), case.path("etc")).unwrap();
    symlink("etc/real.toml", case.path("hnp.toml")).unwrap();
    let watcher = case.watch(&[&case.path("hnp.toml")]);

    case.write("elsewhere/real.toml", "3");
    case.expect(&watcher, "written behind two links");

    fs::remove_file(case.path("etc")).unwrap();
    symlink("other", case.path("etc")).unwrap();
    case.expect(&watcher, "another directory behind the link");

    case.write("other/real.toml", "4");
    case.expect(&watcher, "written in that directory");
}

#[test]
fn a_directory_that_goes_and_comes_back_is_watched_again() {
    let case = Case::new();
    let file = case.write("mount/deep/hnp.toml", "1");
    let watcher = case.watch(&[&file]);

    fs::remove_dir_all(case.path("mount")).unwrap();
    case.expect(&watcher, "removed with its directory");

    case.write("mount/deep/hnp.toml", "2");
    case.expect(&watcher, "back with its directory");

    case.write("mount/deep/hnp.toml", "3");
    case.expect(&watcher, "written in the new directory");

    // Within one burst: the path is the same, its watch is gone.
    fs::remove_dir_all(case.path("mount")).unwrap();
    case.write("mount/deep/hnp.toml", "4");
    case.expect(&watcher, "exchanged with its directory");
    case.write("mount/deep/hnp.toml", "5");
    case.expect(&watcher, "written in the exchanged directory");
}

#[test]
fn a_touch_and_a_neighbour_change_nothing() {
    let case = Case::new();
    let file = case.write("hnp.toml", "same");
    let marker = case.write("marker", "");
    let watcher = case.watch(&[&file, &marker]);

    let mut in_place = fs::OpenOptions::new().write(true).open(&file).unwrap();
    in_place.write_all(b"same").unwrap();
    drop(in_place);
    case.expect_none(&watcher, &marker, "the same contents");

    case.write("neighbour", "not watched");
    fs::read_to_string(&file).unwrap();
    case.expect_none(&watcher, &marker, "a neighbour");
}

/// A log, or the like, beside what is watched: there is always one more event than has been read.
#[test]
fn beside_what_is_written_without_pause_changes_are_noticed_and_the_end_is_the_end() {
    let case = Case::new();
    let file = case.write("hnp.toml", "1");
    let watcher = case.watch(&[&file]);
    let stop = AtomicBool::new(false);
    let write_without_pause = |name: &str| {
        let mut logs =
            [0, 1].map(|half| File::create(case.path(&format!("{name}-{half}"))).unwrap());
        // Two by turns: events that are alike are merged into one.
        while !stop.load(Relaxed) {
            for log in &mut logs {
                log.write_all(b"x").unwrap();
                log.rewind().unwrap();
            }
        }
    };
    std::thread::scope(|threads| {
        // As many as it takes on few processors for whoever reads events one by one to find no end of them.
        for number in 0..12 {
            let write_without_pause = &write_without_pause;
            threads.spawn(move || write_without_pause(&format!("log-{number}")));
        }
        let watcher = watcher;
        // Dropped first, whatever fails.
        let _stop = Stop(&stop);
        for version in 2..5 {
            fs::write(&file, version.to_string()).unwrap();
            case.expect(&watcher, &format!("version {version}"));
            // As a reload does.
            watcher.watch(Fingerprint::of([file.clone()]));
        }
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(watcher);
            let _ = ended.send(());
        });
        end.recv_timeout(SOON).expect("the watcher does not end");
    });
}

/// Ends the writers.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_pair_written_one_after_the_other_is_one_change() {
    let case = Case::new();
    let certificate = case.write("tls.crt", "0");
    let key = case.write("tls.key", "0");
    let watcher = case.watch_tls(&[&certificate, &key]);
    let mut rotations = 0;
    for version in 1..20 {
        let version = version.to_string();
        let begun = std::time::Instant::now();
        fs::write(&certificate, &version).unwrap();
        // Longer than what the quiet of an ordinary file takes.
        std::thread::sleep(super::QUIET * 2);
        fs::write(&key, &version).unwrap();
        let in_time = begun.elapsed() < TOGETHER;
        case.expect(&watcher, &format!("pair {version}"));
        if !in_time {
            // The machine was too busy to write a pair at once: it may rightly have been two changes.
            let again = async { timeout(TOGETHER * 4, watcher.changed()).await };
            let _ = case.runtime.block_on(again);
            continue;
        }
        assert_eq!(fs::read_to_string(&key).unwrap(), version);
        let again = async { timeout(TOGETHER * 2, watcher.changed()).await };
        assert!(
            case.runtime.block_on(again).is_err(),
            "pair {version} twice"
        );
        rotations += 1;
        if rotations == 3 {
            return;
        }
    }
    panic!("no pair could be written in time");
}

#[test]
fn a_secret_s_swap_is_noticed_again_and_again() {
    let case = Case::new();
    // As the kubelet lays it out.
    let files = ["tls.crt", "tls.key", "ca.crt"];
    let write = |version: u32| {
        for name in files {
            case.write(
                &format!("secret/..v{version}/{name}"),
                &format!("{name} {version}"),
            );
        }
    };
    write(1);
    symlink("..v1", case.path("secret/..data")).unwrap();
    for name in files {
        symlink(
            format!("..data/{name}"),
            case.path(&format!("secret/{name}")),
        )
        .unwrap();
    }
    let toml = format!(
        "[listener.tls]\ncertificate = {:?}",
        case.path("secret").to_str().unwrap()
    );
    let config: crate::config::Config = toml::from_str(&toml).unwrap();
    let watched = config.tls_files();
    let watched: Vec<&Path> = watched.iter().map(PathBuf::as_path).collect();
    let watcher = case.watch_tls(&watched);
    for version in 2..6 {
        write(version);
        symlink(format!("..v{version}"), case.path("secret/..data_tmp")).unwrap();
        fs::rename(case.path("secret/..data_tmp"), case.path("secret/..data")).unwrap();
        fs::remove_dir_all(case.path(&format!("secret/..v{}", version - 1))).unwrap();
        case.expect(&watcher, &format!("version {version}"));
    }
    // A file that was not there before.
    case.write("secret/client.crt", "new");
    case.expect(&watcher, "a certificate under another name");
}

#[test]
fn the_files_can_be_exchanged_for_others() {
    let case = Case::new();
    let file = case.write("hnp.toml", "1");
    let users = case.write("secrets/users", "1");
    let watcher = case.watch(&[&file]);

    let both = Fingerprint::of([file.clone(), users.clone()]);
    // Between the load that read it and the watch: not lost.
    fs::write(&users, "2").unwrap();
    watcher.watch(both);
    case.expect(&watcher, "changed before it was watched");

    fs::write(&users, "3").unwrap();
    case.expect(&watcher, "a file that was named later");

    watcher.watch(Fingerprint::of([users.clone()]));
    fs::write(&file, "2").unwrap();
    case.expect_none(&watcher, &users, "a file that is watched no more");
}

#[test]
fn directories_are_those_of_every_link_on_the_way() {
    let case = Case::new();
    case.write("a/real", "");
    fs::create_dir(case.path("b")).unwrap();
    symlink("../a", case.path("b/link")).unwrap();
    symlink(case.path("b/link/real"), case.path("file")).unwrap();
    symlink("loop", case.path("loop")).unwrap();
    let of = |name: &str| -> Vec<PathBuf> {
        let path = case.path(name);
        directories::of([path.as_path()].into_iter())
            .into_iter()
            .collect()
    };
    let root = case.path("").components().collect::<PathBuf>();
    assert_eq!(of("file"), [root.clone(), case.path("a"), case.path("b")]);
    assert_eq!(of("a/real"), [case.path("a")]);
    assert_eq!(of("a/missing/deeper"), [case.path("a")]);
    for name in ["missing", "loop"] {
        assert_eq!(of(name), std::slice::from_ref(&root), "{name}");
    }
}
