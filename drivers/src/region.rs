//! The memory of a cache region: cells in one shared mapping, which one appliance writes and any number of
//! processes read.
//!
//! A region with a name is a file (on `/dev/shm`, or on a mounted hugetlbfs for huge pages). It is made under the
//! name `NAME.tmp` and gets its own name by [`RegionMapping::publish`], after the caller has written its
//! header: a reader never opens a half made one. `NAME.lock` is held (flock) by the appliance as long as it lives,
//! so that no second one writes the same region; the kernel lets go of it however the process ends. A region
//! that a crash left behind stays readable, its rows long stale, until the next appliance replaces it; readers of
//! the old one keep their old memory.
//!
//! Whoever may write the file may also shorten it, and a reader that then touches the lost pages is killed by
//! SIGBUS. Named regions are therefore mode 0640, and nobody but the owner should be able to write their folder. A
//! region without a name is a memfd and is sealed: it can't be resized or written by anyone else.

use crate::hugepages::page_bytes;
use dataplane::cache::cell::Cell;
use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a cell.
pub const CELL_BYTES: usize = size_of::<Cell>();
const _: () = assert!(CELL_BYTES == 64 && align_of::<Cell>() == 64);

/// `f_type` of a hugetlbfs (linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
/// The mode of a region's file: the group reads, nobody else.
const MODE: u32 = 0o640;
/// How often the lock file is taken anew when its owner removes it in the very moment that we open it.
const LOCK_ATTEMPTS_MAX: usize = 100;

/// Why a region has no memory.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    #[error(
        "a region of {cells} cells is not possible: it needs at least one and must fit the address space"
    )]
    Cells { cells: usize },
    #[error("region {path}: another appliance is writing it (it holds {path}.lock): stop that one, or give this \
             one a region name of its own", path = path.display())]
    Locked { path: PathBuf },
    #[error("region {path}: its size of {bytes} bytes is not a multiple of {CELL_BYTES}, or nothing: this is not \
             a region, or one that was cut", path = path.display())]
    Size { path: PathBuf, bytes: u64 },
    #[error("region {path}: not a regular file", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("region {path}: no such region: is the appliance running, and is this its region's name?",
            path = path.display())]
    Absent { path: PathBuf },
    #[error("region {path}: {bytes} bytes of memory are not to be had: {cause}; make the region smaller, the file \
             system larger (df), or reserve more huge pages (vm.nr_hugepages)", path = path.display())]
    Memory { path: PathBuf, bytes: usize, cause: io::Error },
    #[error("region {path}: {step}: {cause}", path = path.display())]
    System { path: PathBuf, step: &'static str, cause: io::Error },
}

/// What the pages behind a mapping are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// From the machine's reserved huge pages.
    Huge { page_bytes: usize },
    /// Ordinary; transparent huge pages were asked for, and the kernel gives them where it is set to
    /// (`/sys/kernel/mm/transparent_hugepage/shmem_enabled` = advise).
    Ordinary,
}

/// A mapped region. Dropping it unmaps it (unless leaked); dropping the one that created it removes its name
/// and its lock, too.
#[derive(Debug)]
pub struct RegionMapping {
    memory: Memory,
    cells: usize,
    pages: Pages,
    file: File,
    /// The name and its lock, on the side that created them.
    name: Option<Name>,
}

impl RegionMapping {
    /// Makes a region of `cells` zeroed cells, every page of it present, whose name will be `path` once
    /// [`RegionMapping::publish`] is called. Huge pages are used if `path` lies on a hugetlbfs.
    pub fn create(path: &Path, cells: usize) -> Result<Self, RegionError> {
        let cells_bytes = cells_bytes(cells)?;
        let name = Name::lock(path)?;
        let file = name.create_file()?;
        let pages = pages_of(&file).map_err(|cause| name.error("its file system's kind", cause))?;
        Self::fill(file, path, cells, cells_bytes, pages, Some(name))
    }

    /// Makes a region without a name, on reserved huge pages if it fills one and enough of them are free, else on
    /// ordinary ones; others read it by the file descriptor. `label` shows in `/proc/PID/maps`.
    pub fn create_anonymous(label: &str, cells: usize) -> Result<Self, RegionError> {
        let cells_bytes = cells_bytes(cells)?;
        let path = PathBuf::from(format!("memfd:{label}"));
        if let Ok(file) = memfd(label, libc::MFD_HUGETLB)
            && let Ok(pages @ Pages::Huge { page_bytes }) = pages_of(&file)
            && page_bytes <= cells_bytes
            && let Ok(region) = Self::fill(file, &path, cells, cells_bytes, pages, None)
        {
            region.seal(&path)?;
            return Ok(region);
        }
        let file = memfd(label, 0).map_err(|cause| RegionError::System {
            path: path.clone(),
            step: "memfd_create",
            cause,
        })?;
        let region = Self::fill(file, &path, cells, cells_bytes, Pages::Ordinary, None)?;
        region.seal(&path)?;
        Ok(region)
    }

    /// Maps a published region to read it: storing into its cells ends the process with SIGSEGV. On huge
    /// pages the file, and so the slice, is a little longer than the region; the region's own header tells.
    pub fn open(path: &Path) -> Result<Self, RegionError> {
        let system = |step| move |cause| RegionError::System { path: path.to_path_buf(), step, cause };
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(RegionError::Absent { path: path.to_path_buf() });
            }
            Err(cause) => return Err(system("open")(cause)),
        };
        let metadata = file.metadata().map_err(system("stat"))?;
        if !metadata.is_file() {
            return Err(RegionError::NotAFile { path: path.to_path_buf() });
        }
        let bytes = metadata.len();
        if bytes == 0 || bytes % CELL_BYTES as u64 != 0 || bytes > isize::MAX as u64 {
            return Err(RegionError::Size { path: path.to_path_buf(), bytes });
        }
        let pages = pages_of(&file).map_err(system("its file system's kind"))?;
        let memory =
            Memory::map(&file, bytes as usize, libc::PROT_READ, libc::MAP_POPULATE).map_err(|cause| {
                RegionError::Memory { path: path.to_path_buf(), bytes: bytes as usize, cause }
            })?;
        Ok(RegionMapping { memory, cells: bytes as usize / CELL_BYTES, pages, file, name: None })
    }

    fn fill(
        file: File,
        path: &Path,
        cells: usize,
        cells_bytes: usize,
        pages: Pages,
        name: Option<Name>,
    ) -> Result<Self, RegionError> {
        let unit_bytes = match pages {
            Pages::Huge { page_bytes } => page_bytes,
            Pages::Ordinary => CELL_BYTES,
        };
        let bytes = cells_bytes.checked_next_multiple_of(unit_bytes).ok_or(RegionError::Cells { cells })?;
        let lacking = |cause| RegionError::Memory { path: path.to_path_buf(), bytes, cause };
        file.set_len(bytes as u64).map_err(lacking)?;
        let memory = Memory::map(&file, bytes, libc::PROT_READ | libc::PROT_WRITE, 0).map_err(lacking)?;
        if pages == Pages::Ordinary {
            memory.advise(libc::MADV_HUGEPAGE).ok();
        }
        memory.populate(&file).map_err(lacking)?;
        Ok(RegionMapping { memory, cells, pages, file, name })
    }

    /// Nobody may resize a memfd any more, nor map or write it anew; this mapping goes on writing.
    fn seal(&self, path: &Path) -> Result<(), RegionError> {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
        // SAFETY: fcntl on our own open file, with the integer argument that F_ADD_SEALS takes.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0 {
            return Ok(());
        }
        Err(RegionError::System { path: path.to_path_buf(), step: "seal", cause: io::Error::last_os_error() })
    }

    /// Gives a created region its name, in place of an older one of that name. To be called when its header is
    /// written; a second call, or one on a region that was opened or has no name, does nothing.
    pub fn publish(&self) -> Result<(), RegionError> {
        match &self.name {
            Some(name) if !name.published.load(Ordering::Relaxed) => name.publish(),
            _ => Ok(()),
        }
    }

    pub fn cells(&self) -> &[Cell] {
        // SAFETY: see `Memory::cells`; the borrow ends before `self.memory` is unmapped.
        unsafe { self.memory.cells(self.cells) }
    }

    /// The cells for the rest of the process's life: the memory is never unmapped. The name and the lock of a
    /// created region still go when `self` is dropped.
    pub fn leak(&mut self) -> &'static [Cell] {
        self.memory.leaked = true;
        // SAFETY: see `Memory::cells`; `leaked` keeps it mapped for good.
        unsafe { self.memory.cells(self.cells) }
    }

    /// What the pages are, to be told to the user.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// Bytes mapped, at least those of the cells.
    pub fn mapped_bytes(&self) -> usize {
        self.memory.bytes
    }

    /// Where they start, for a device that is to read or write them.
    #[cfg(feature = "rdma")]
    pub(crate) fn start(&self) -> std::ptr::NonNull<u8> {
        self.memory.start.cast()
    }
}

impl AsFd for RegionMapping {
    /// The file behind the mapping, for one that is to read a region without a name.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn cells_bytes(cells: usize) -> Result<usize, RegionError> {
    match cells.checked_mul(CELL_BYTES) {
        Some(bytes) if bytes > 0 && bytes <= isize::MAX as usize => Ok(bytes),
        _ => Err(RegionError::Cells { cells }),
    }
}

fn memfd(label: &str, flags: libc::c_uint) -> io::Result<File> {
    let label = CString::new(label)?;
    let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `label` is NUL-terminated and lives through the call.
    let fd = unsafe { libc::memfd_create(label.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd`, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn pages_of(file: &File) -> io::Result<Pages> {
    // SAFETY: an all-zero `statfs` is a valid value of that plain struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is valid for the write.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast)] // the fields' widths differ between the architectures
    let (kind, block_bytes) = (stat.f_type as i64, stat.f_bsize as usize);
    Ok(if kind == HUGETLBFS_MAGIC { Pages::Huge { page_bytes: block_bytes } } else { Pages::Ordinary })
}

/// A shared mapping.
#[derive(Debug)]
struct Memory {
    start: NonNull<libc::c_void>,
    bytes: usize,
    leaked: bool,
}

// SAFETY: the memory belongs to the process, not to a thread, and is only ever seen as cells of atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(file: &File, bytes: usize, protection: i32, flags: i32) -> io::Result<Self> {
        let flags = flags | libc::MAP_SHARED;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).expect("mmap without MAP_FIXED never maps address 0");
        Ok(Memory { start, bytes, leaked: false })
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is this very mapping, and no advice given here discards its contents.
        match unsafe { libc::madvise(self.start.as_ptr(), self.bytes, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes every page present and writable now, so that the hot path never faults, and so that a lack of
    /// memory is an error here instead of a SIGBUS there.
    fn populate(&self, file: &File) -> io::Result<()> {
        match self.advise(libc::MADV_POPULATE_WRITE) {
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => {}
            Err(cause) if cause.raw_os_error() == Some(libc::EFAULT) => {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            result => return result,
        }
        // Kernels before 5.14: reserve the blocks, which tells of a lack, then touch the pages.
        // SAFETY: fallocate on our own file, within its length.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, self.bytes as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: see `Memory::cells`; the bytes are a multiple of a cell's.
        let cells = unsafe { self.cells(self.bytes / CELL_BYTES) };
        for cell in cells.iter().step_by(page_bytes() / CELL_BYTES) {
            std::hint::black_box(cell);
            // SAFETY: one byte within the mapping, to which no other thread or process has a pointer yet.
            unsafe { std::ptr::from_ref(cell).cast::<u8>().cast_mut().write_volatile(0) };
        }
        Ok(())
    }

    /// # Safety
    /// The slice must not be used after the memory is unmapped, and `cells` of them must fit it.
    unsafe fn cells<'m>(&self, cells: usize) -> &'m [Cell] {
        debug_assert!(cells * CELL_BYTES <= self.bytes);
        // SAFETY: the mapping starts on a page, hence aligned for cells; a cell is 64 bytes of atomics, valid for
        // any contents and free to be changed by others; the length fits (caller), as does the lifetime (caller).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<Cell>(), cells) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: the mapping is ours, still there, and all borrows of it have ended.
            unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
        }
    }
}

/// A region's name while it is ours: the lock is held.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    _lock: File,
    published: AtomicBool,
}

impl Name {
    fn lock(path: &Path) -> Result<Self, RegionError> {
        let system = |step| move |cause| RegionError::System { path: path.to_path_buf(), step, cause };
        let lock_path = beside(path, ".lock");
        for _ in 0..LOCK_ATTEMPTS_MAX {
            let lock = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(MODE)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&lock_path)
                .map_err(system("its lock file can't be made beside it"))?;
            // SAFETY: flock on our own open file.
            if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
                let cause = io::Error::last_os_error();
                if cause.kind() == io::ErrorKind::WouldBlock {
                    return Err(RegionError::Locked { path: path.to_path_buf() });
                }
                return Err(system("flock")(cause));
            }
            // The owner before us removes the file while it holds the lock: we may have locked a file that
            // no longer has a name, and that would exclude nobody.
            let locked_inode = lock.metadata().map_err(system("stat of its lock file"))?.ino();
            if fs::metadata(&lock_path).is_ok_and(|named| named.ino() == locked_inode) {
                return Ok(Name { path: path.to_path_buf(), _lock: lock, published: AtomicBool::new(false) });
            }
        }
        Err(RegionError::Locked { path: path.to_path_buf() })
    }

    fn create_file(&self) -> Result<File, RegionError> {
        let path = beside(&self.path, ".tmp");
        // What a crash left; nobody else makes one while we hold the lock.
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(self.error("an old temporary file can't be removed", cause));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(MODE)
            .open(&path)
            .map_err(|cause| self.error("its file can't be made", cause))?;
        file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(|cause| self.error("chmod", cause))?;
        Ok(file)
    }

    fn publish(&self) -> Result<(), RegionError> {
        fs::rename(beside(&self.path, ".tmp"), &self.path).map_err(|cause| self.error("rename", cause))?;
        self.published.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn error(&self, step: &'static str, cause: io::Error) -> RegionError {
        RegionError::System { path: self.path.clone(), step, cause }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let region = if self.published.load(Ordering::Relaxed) {
            self.path.clone()
        } else {
            beside(&self.path, ".tmp")
        };
        fs::remove_file(region).ok();
        fs::remove_file(beside(&self.path, ".lock")).ok();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
