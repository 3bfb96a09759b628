//! Where the captures lie.

use std::path::{Path, PathBuf};

/// The capture of that name; `None`, and a message, where it is not.
pub fn capture(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let beside = ["../shared/captures", "../../shared/captures"].map(|path| workspace.join(path));
    let told = std::env::var_os("TICKPLANE_CAPTURES").map(PathBuf::from);
    let file = told.into_iter().chain(beside).map(|folder| folder.join(name)).find(|file| file.exists());
    if file.is_none() {
        eprintln!("skipped: no capture {name}; name their folder in TICKPLANE_CAPTURES");
    }
    file
}
