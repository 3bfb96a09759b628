//! Region memory: what a reader in another process would see of a writer's, and who may write.

use drivers::region::{CELL_BYTES, Pages, RegionError, RegionMapping};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn first_words(path: &Path) -> Vec<u64> {
    let region = RegionMapping::open(path).unwrap();
    region.cells().iter().map(|cell| word(cell).load(Relaxed)).collect()
}

/// The first word of a cell, whatever a cell calls it.
fn word<C>(cell: &C) -> &AtomicU64 {
    words(cell).first().unwrap()
}

fn words<C>(cell: &C) -> &[AtomicU64] {
    assert_eq!(size_of::<C>(), CELL_BYTES);
    // SAFETY: a cell is eight atomic words and nothing else.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(cell).cast(), 8) }
}

#[test]
fn a_published_region_is_read_and_its_changes_are_seen() {
    let folder = folder();
    let path = folder.path().join("region");
    let writer = RegionMapping::create(&path, 1000).unwrap();
    assert!(writer.cells().iter().all(|cell| words(cell).iter().all(|word| word.load(Relaxed) == 0)));
    word(&writer.cells()[0]).store(7, Relaxed);
    writer.publish().unwrap();

    let reader = RegionMapping::open(&path).unwrap();
    assert_eq!(reader.cells().len(), 1000);
    assert_eq!(word(&reader.cells()[0]).load(Relaxed), 7);
    word(&writer.cells()[999]).store(8, Relaxed);
    assert_eq!(word(&reader.cells()[999]).load(Relaxed), 8);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_region_has_no_name_before_it_is_published_and_none_after_it_is_dropped() {
    let folder = folder();
    let path = folder.path().join("region");
    let region = RegionMapping::create(&path, 1).unwrap();
    assert!(matches!(RegionMapping::open(&path), Err(RegionError::Absent { .. })));
    region.publish().unwrap();
    assert_eq!(names(folder.path()), ["region", "region.lock"]);
    drop(region);
    assert_eq!(names(folder.path()), [] as [&str; 0]);

    drop(RegionMapping::create(&path, 1).unwrap());
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn a_second_writer_is_refused_and_harms_nothing() {
    let folder = folder();
    let path = folder.path().join("region");
    let first = RegionMapping::create(&path, 3).unwrap();
    first.publish().unwrap();
    let refusal = RegionMapping::create(&path, 3).unwrap_err();
    assert!(matches!(refusal, RegionError::Locked { .. }), "{refusal}");
    assert_eq!(first_words(&path), [0, 0, 0]);
    drop(first);
    RegionMapping::create(&path, 3).unwrap();
}

#[test]
fn what_a_crash_left_is_replaced_and_its_readers_keep_their_memory() {
    let folder = folder();
    let path = folder.path().join("region");
    fs::write(&path, [1u8; 2 * CELL_BYTES]).unwrap();
    fs::write(folder.path().join("region.tmp"), "half made").unwrap();
    fs::write(folder.path().join("region.lock"), "").unwrap();
    let old = RegionMapping::open(&path).unwrap();

    let region = RegionMapping::create(&path, 4).unwrap();
    assert_eq!(first_words(&path).len(), 2, "the old one stays until the new one is published");
    region.publish().unwrap();
    assert_eq!(first_words(&path), [0; 4]);
    assert_eq!(word(&old.cells()[1]).load(Relaxed), 0x0101_0101_0101_0101);
}

#[test]
fn leaked_cells_outlive_the_mapping_but_the_name_does_not() {
    let folder = folder();
    let path = folder.path().join("region");
    let mut region = RegionMapping::create(&path, 5).unwrap();
    region.publish().unwrap();
    let cells = region.leak();
    drop(region);
    word(&cells[4]).store(9, Relaxed);
    assert_eq!(word(&cells[4]).load(Relaxed), 9);
    assert_eq!(names(folder.path()), [] as [&str; 0]);
}

#[test]
fn what_is_no_region_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("region");
    let size = |bytes: usize| {
        fs::write(&path, vec![0; bytes]).unwrap();
        RegionMapping::open(&path).map(|region| region.cells().len())
    };
    assert!(matches!(size(0), Err(RegionError::Size { bytes: 0, .. })));
    assert!(matches!(size(63), Err(RegionError::Size { bytes: 63, .. })));
    assert!(matches!(size(65), Err(RegionError::Size { bytes: 65, .. })));
    assert_eq!(size(128).unwrap(), 2);
    assert!(matches!(RegionMapping::open(folder.path()), Err(RegionError::NotAFile { .. })));
    let message = RegionMapping::open(&folder.path().join("none")).unwrap_err().to_string();
    assert!(message.contains("none") && message.contains("is the appliance running"), "{message}");
}

#[test]
fn impossible_sizes_are_errors_and_leave_nothing() {
    let folder = folder();
    let path = folder.path().join("region");
    for cells in [0, usize::MAX, usize::MAX / CELL_BYTES] {
        assert!(matches!(RegionMapping::create(&path, cells), Err(RegionError::Cells { .. })), "{cells}");
        assert!(matches!(RegionMapping::create_anonymous("x", cells), Err(RegionError::Cells { .. })));
    }
    // A petabyte: no machine's memory holds it.
    let error = RegionMapping::create(&path, 1 << 44).unwrap_err();
    assert!(matches!(error, RegionError::Memory { .. }), "{error}");
    assert_eq!(names(folder.path()), [] as [&str; 0]);
    let absent = RegionMapping::create(&folder.path().join("no/folder"), 1).unwrap_err().to_string();
    assert!(absent.contains("lock file"), "{absent}");
}

#[test]
fn an_anonymous_region_is_sealed_and_readable_by_its_descriptor() {
    let region = RegionMapping::create_anonymous("tickplane-test", 100).unwrap();
    assert_eq!(
        (region.pages(), region.mapped_bytes()),
        (Pages::Ordinary, 6_400),
        "too small for a huge page"
    );
    word(&region.cells()[99]).store(5, Relaxed);
    let path = PathBuf::from(format!("/proc/self/fd/{}", region.as_fd().as_raw_fd()));

    let reader = RegionMapping::open(&path).unwrap();
    assert_eq!(reader.cells().len(), 100);
    assert_eq!(word(&reader.cells()[99]).load(Relaxed), 5);

    let file = File::from(region.as_fd().try_clone_to_owned().unwrap());
    assert!(file.set_len(0).is_err(), "sealed against shrinking");
    let writable = OpenOptions::new().write(true).open(&path).and_then(|mut file| {
        use std::io::Write;
        file.write_all(b"x")
    });
    assert!(writable.is_err(), "sealed against others' writing");
    word(&region.cells()[0]).store(6, Relaxed);
    assert_eq!(word(&reader.cells()[0]).load(Relaxed), 6, "its own mapping still writes");
}

#[test]
fn a_hugetlbfs_gives_huge_pages_where_one_is_mounted() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mounted = mounts.lines().map(|line| line.split(' ')).filter_map(|mut fields| {
        let (mount, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "hugetlbfs").then(|| PathBuf::from(mount))
    });
    let Some(folder) = mounted.into_iter().find_map(|mount| tempfile::tempdir_in(mount).ok()) else {
        println!("skipped: no hugetlbfs that this user may write");
        return;
    };
    let path = folder.path().join("region");
    match RegionMapping::create(&path, 10) {
        Err(error @ RegionError::Memory { .. }) => println!("skipped: no huge page is free: {error}"),
        region => {
            let region = region.unwrap();
            let Pages::Huge { page_bytes } = region.pages() else { panic!("{:?}", region.pages()) };
            assert_eq!(region.mapped_bytes(), page_bytes);
            assert_eq!(region.cells().len(), 10);
            word(&region.cells()[9]).store(3, Relaxed);
            region.publish().unwrap();
            let reader = RegionMapping::open(&path).unwrap();
            assert_eq!(word(&reader.cells()[9]).load(Relaxed), 3);
        }
    }
}
