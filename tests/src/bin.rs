//! Where the real `hnp` is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The target directory this test was built into.
///
/// # Panics
/// When this program does not lie in one.
#[must_use]
pub fn target_directory() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

/// `<target>/<profile>`: test programs lie in its `deps`.
fn profile_directory() -> PathBuf {
    let program = env::current_exe().unwrap();
    program
        .ancestors()
        .find(|directory| directory.join(".fingerprint").is_dir())
        .unwrap_or_else(|| panic!("{} is not in a cargo target directory", program.display()))
        .to_owned()
}

/// The `hnp` to test: `HNP_TEST_BINARY` when set, else the one of this workspace, in the profile of the test, built now if its
/// sources have changed. Cargo decides that, once a test program.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn hnp() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("HNP_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile = profile_directory();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The same selection of packages as the build of the whole, so that features unify alike and nothing is built twice.
    cargo
        .args(["build", "--quiet", "--workspace", "--bin", "hnp"])
        .arg("--target-dir")
        .arg(target_directory())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .stdin(Stdio::null());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "`hnp` cannot be built: {cargo:?}");
    profile.join("hnp")
}
