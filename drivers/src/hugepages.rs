//! Huge pages for memory that the core has already allocated: fewer TLB misses in its big tables.

/// Asks the kernel to back the whole pages within `slice` by transparent huge pages, and returns how many
/// bytes it agreed to (0 where it has none, or the slice is short). Pages that were touched already are collapsed at
/// once where the kernel can (Linux 6.1), else by and by. A hint: the contents stay.
pub fn advise_hugepages<T>(slice: &[T]) -> usize {
    let page_bytes = page_bytes();
    let range = slice.as_ptr_range();
    let start = (range.start as usize).next_multiple_of(page_bytes);
    let end = range.end as usize / page_bytes * page_bytes;
    if end <= start {
        return 0;
    }
    // SAFETY: [start, end) lies within the live allocation behind `slice`, and neither advice changes its contents
    // nor its protection.
    let advise = |advice| unsafe { libc::madvise(start as *mut libc::c_void, end - start, advice) == 0 };
    if !advise(libc::MADV_HUGEPAGE) {
        return 0;
    }
    // The allocator zeroes memory of more than ordinary alignment by hand, and so touches all of it.
    advise(libc::MADV_COLLAPSE);
    end - start
}

/// Bytes of an ordinary page.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: `sysconf` reads a constant of the machine.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    assert!(bytes > 0, "a machine without a page size");
    bytes as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_slice_has_no_whole_page() {
        assert_eq!(advise_hugepages(&[1u8, 2, 3]), 0);
        assert_eq!(advise_hugepages::<u64>(&[]), 0);
    }

    #[test]
    fn a_big_slice_keeps_its_contents() {
        let table: Vec<u64> = (0..1 << 20).collect();
        let advised_bytes = advise_hugepages(&table);
        assert!(advised_bytes <= size_of_val(&table[..]));
        assert!(table.iter().copied().eq(0..1 << 20));
    }
}
