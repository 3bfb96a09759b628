//! The term that a node must not forget: a file that is written before any peer hears of a term.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "term";
/// A term as text, with room to spare.
const BYTES_MAX: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum TermError {
    #[error("state = {folder:?}: {step}: {cause}: name a folder that this node may write")]
    System { folder: PathBuf, step: &'static str, cause: io::Error },
    #[error("state = {folder:?}: another node uses it: give each node a folder of its own")]
    Locked { folder: PathBuf },
    #[error(
        "{file:?} holds no term: if it is lost, write into it a number that is at least every other node's, and start \
         again"
    )]
    NoTerm { file: PathBuf },
}

/// The folder of one node; it is locked as long as this lives.
#[derive(Debug)]
pub struct TermFile {
    folder: PathBuf,
    /// Locked, and synced after each change of a name.
    opened: File,
    term: u64,
}

impl TermFile {
    /// Makes the folder if it is not there. Without a file the term is 0.
    pub fn open(folder: &Path) -> Result<TermFile, TermError> {
        let system = |step| move |cause| TermError::System { folder: folder.to_owned(), step, cause };
        fs::create_dir_all(folder).map_err(system("make it"))?;
        let opened = File::open(folder).map_err(system("open it"))?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(TermError::Locked { folder: folder.to_owned() });
            }
            Err(cause) => return Err(system("lock it")(cause.into())),
        }
        let file = folder.join(NAME);
        let term = match fs::metadata(&file) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => 0,
            Err(cause) => return Err(system("read its term")(cause)),
            Ok(metadata) if metadata.len() > BYTES_MAX => return Err(TermError::NoTerm { file }),
            Ok(_) => {
                let text = fs::read_to_string(&file).map_err(system("read its term"))?;
                text.trim_end().parse().map_err(|_| TermError::NoTerm { file })?
            }
        };
        Ok(TermFile { folder: folder.to_owned(), opened, term })
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    /// The term that would come next: one that no earlier start of this node had, nor any other node that it has heard of.
    pub fn next(&self) -> Result<u64, TermError> {
        let next = self.term.checked_add(1);
        next.ok_or_else(|| TermError::NoTerm { file: self.folder.join(NAME) })
    }

    /// Writes a term down, so that it outlasts a crash of the machine.
    pub fn write(&mut self, term: u64) -> Result<(), TermError> {
        let folder = &self.folder;
        let system = |step| move |cause| TermError::System { folder: folder.clone(), step, cause };
        let fresh = folder.join("term.new");
        let mut file = File::create(&fresh).map_err(system("write a term"))?;
        writeln!(file, "{term}").map_err(system("write a term"))?;
        file.sync_all().map_err(system("write a term"))?;
        fs::rename(&fresh, folder.join(NAME)).map_err(system("write a term"))?;
        self.opened.sync_all().map_err(system("sync it"))?;
        self.term = term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_there_after_a_restart_and_for_one_node_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let mut file = TermFile::open(&state).unwrap();
        assert_eq!(file.term(), 0);
        file.write(41).unwrap();
        file.write(42).unwrap();
        let error = TermFile::open(&state).unwrap_err();
        assert!(matches!(error, TermError::Locked { .. }), "{error}");
        drop(file);
        let mut file = TermFile::open(&state).unwrap();
        assert_eq!((file.term(), file.next().unwrap(), file.term()), (42, 43, 42));
        file.write(u64::MAX).unwrap();
        assert!(matches!(file.next(), Err(TermError::NoTerm { .. })));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_no_term_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "x", "-1", "99999999999999999999", &"1".repeat(100), "1 2"] {
            fs::write(folder.path().join(NAME), text).unwrap();
            let error = TermFile::open(folder.path()).unwrap_err();
            assert!(matches!(error, TermError::NoTerm { .. }), "{text}: {error}");
        }
        let error = TermFile::open(Path::new("/dev/null/x")).unwrap_err().to_string();
        assert!(error.contains("may write"), "{error}");
    }
}
