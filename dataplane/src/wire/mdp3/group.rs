//! Blocks, and groups of them: stepped by their length on the wire, whatever is known of them.

use std::marker::PhantomData;
use std::ops::Deref;
use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What can be laid over bytes.
pub trait Field: FromBytes + Immutable + KnownLayout + Unaligned + 'static {}
impl<T: FromBytes + Immutable + KnownLayout + Unaligned + 'static> Field for T {}

/// A block: the fields that every schema has, and all bytes that are there.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, T> {
    known: &'a T,
    bytes: &'a [u8],
}

impl<'a, T: Field> Block<'a, T> {
    /// `None` = too short.
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Option<Block<'a, T>> {
        let (known, _) = T::ref_from_prefix(bytes).ok()?;
        Some(Block { known, bytes })
    }

    #[inline(always)]
    pub fn known(&self) -> &'a T {
        self.known
    }

    /// A field that not every schema has; `None` = the block ends before it does.
    #[inline(always)]
    pub fn field<F: Field>(&self, offset: usize) -> Option<&'a F> {
        let (field, _) = F::ref_from_prefix(self.bytes.get(offset..)?).ok()?;
        Some(field)
    }
}

impl<T> Deref for Block<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.known
    }
}

/// How a group says how many entries it has, and how long each is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimensions {
    /// `groupSize`: block length u16, count u8.
    Packed,
    /// `groupSize8Byte`: block length u16, five bytes unused, count u8.
    Aligned,
}

impl Dimensions {
    const fn bytes(self) -> usize {
        match self {
            Dimensions::Packed => 3,
            Dimensions::Aligned => 8,
        }
    }
}

/// The entries of a group.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a, E> {
    bytes: &'a [u8],
    /// At least 1, and at least the size of an entry if there are any.
    block_bytes: usize,
    entry: PhantomData<E>,
}

impl<'a, E: Field> Group<'a, E> {
    pub const EMPTY: Group<'a, E> = Group { bytes: &[], block_bytes: 1, entry: PhantomData };

    /// The group that begins at `bytes`, and what is behind it; `None` = it does not fit, or its entries are too short.
    #[inline(always)]
    pub fn split(bytes: &'a [u8], dimensions: Dimensions) -> Option<(Group<'a, E>, &'a [u8])> {
        let (sizes, rest) = bytes.split_at_checked(dimensions.bytes())?;
        let (block_length, _) = U16::ref_from_prefix(sizes).ok()?;
        let block_bytes = usize::from(block_length.get());
        let count = usize::from(sizes[sizes.len() - 1]);
        if count == 0 {
            return Some((Group::EMPTY, rest));
        }
        let (bytes, rest) = rest.split_at_checked(block_bytes * count)?;
        let fits = block_bytes >= size_of::<E>().max(1);
        fits.then_some((Group { bytes, block_bytes, entry: PhantomData }, rest))
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.block_bytes
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = Block<'a, E>> + use<'a, E> {
        self.bytes.chunks_exact(self.block_bytes).filter_map(Block::new)
    }
}
