//! Copies of the user's memory, as much of it as can be read.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use loopprobe_common::records::{STACK_BYTES, STACK_HEAD, STACK_PIECE_BYTES};

/// Copies `wanted` bytes from the user's `address`, where it is known that so much is there;
/// returns how many. If not all of it can be read, as much as a stack has of which the end is not
/// known.
#[inline(always)]
pub fn copy(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> u32 {
    match copy_known(bytes, address, wanted) {
        Some(len) => len,
        None => copy_open(bytes, address, STACK_PIECE_BYTES),
    }
}

/// Copies what there is of a stack of which the end is not known, up to `most` bytes and a piece
/// more: by large pieces, and the last by ever smaller ones.
#[inline(never)]
pub fn copy_open(bytes: &mut [u8; STACK_BYTES], address: u64, most: usize) -> u32 {
    let mut copied = 0;
    for _ in 0..STACK_BYTES / STACK_PIECE_BYTES {
        let at = core::hint::black_box(copied);
        if copied >= most || copy_piece(bytes, at, STACK_PIECE_BYTES, address) == 0 {
            break;
        }
        copied += STACK_PIECE_BYTES;
    }
    if copied < most {
        copied += copy_to_end(bytes, core::hint::black_box(copied), address);
    }
    copied as u32
}

/// Copies all of it or nothing: the verifier follows every way through [`copy_open`], which is
/// dear. The page at `address` may be missing: the thread is just about to use it for the first
/// time then, and it reads as zeros, as it would to the thread.
#[inline(always)]
fn copy_known(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> Option<u32> {
    copy_at_once(bytes, address, wanted).or_else(|| copy_behind_page(bytes, address, wanted))
}

/// Zeros in place of what is left of the first page, and what follows.
#[inline(never)]
fn copy_behind_page(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> Option<u32> {
    let first = core::hint::black_box(PAGE as u64 - address % PAGE as u64) as usize;
    let mut rest = core::hint::black_box(wanted.saturating_sub(first as u64)) as usize;
    if rest > STACK_BYTES - PAGE {
        rest = STACK_BYTES - PAGE;
    }
    if first > PAGE || rest == 0 {
        return None;
    }
    // The helper writes zeros where it fails.
    copy_piece(bytes, 0, first, address);
    let place = bytes.get_mut(first..first + rest)?;
    let from = address + first as u64;
    // SAFETY: the helper writes `rest` bytes, which fit, and fails on a bad address.
    let failed =
        unsafe { bpf_probe_read_user(place.as_mut_ptr().cast(), rest as u32, from as *const _) };
    (failed == 0).then_some((first + rest) as u32)
}

/// Copies so many bytes, [`STACK_BYTES`] at most.
#[inline(always)]
pub fn copy_at_once(bytes: &mut [u8; STACK_BYTES], address: u64, wanted: u64) -> Option<u32> {
    let mut len = core::hint::black_box(wanted);
    if len > STACK_BYTES as u64 {
        len = STACK_BYTES as u64;
    }
    // SAFETY: the helper writes at most `len` bytes, which fit, and fails on a bad address.
    let failed =
        unsafe { bpf_probe_read_user(bytes.as_mut_ptr().cast(), len as u32, address as *const _) };
    (failed == 0).then_some(len as u32)
}

/// Puts the outermost part of a stack, which ends at `end`, behind the innermost [`STACK_HEAD`]
/// bytes.
#[inline(always)]
pub fn copy_outermost(bytes: &mut [u8; STACK_BYTES], end: u64) {
    const TAIL: usize = STACK_BYTES - STACK_HEAD;
    let Some(place) = bytes.get_mut(STACK_HEAD..) else {
        return;
    };
    // SAFETY: the helper writes `TAIL` bytes, which fit, zeros if the address is bad.
    unsafe {
        bpf_probe_read_user(
            place.as_mut_ptr().cast(),
            TAIL as u32,
            (end - TAIL as u64) as *const _,
        )
    };
}

/// The size of a page: memory ends with one.
const PAGE: usize = 4096;

/// Copies what is left of a stack from `at` behind `address` on, if it ends within a large piece:
/// to the page's end, then by ever smaller pieces; returns how much. The first page of all may be
/// missing, as above.
#[inline(always)]
fn copy_to_end(bytes: &mut [u8; STACK_BYTES], at: usize, address: u64) -> usize {
    let first = core::hint::black_box(PAGE as u64 - address % PAGE as u64) as usize;
    let is_there = copy_piece(bytes, at, first, address) != 0;
    if !is_there && at > 0 {
        return 0;
    }
    let mut copied = first;
    let mut piece = STACK_PIECE_BYTES / 2;
    while piece >= PAGE {
        copied += copy_piece(bytes, core::hint::black_box(at + copied), piece, address);
        piece /= 2;
    }
    if is_there || copied > first {
        copied
    } else {
        0
    }
}

/// Copies `len` bytes, a large piece at most, from `at` behind the user's `address`; returns how
/// many.
#[inline(always)]
fn copy_piece(bytes: &mut [u8; STACK_BYTES], at: usize, len: usize, address: u64) -> usize {
    if at > STACK_BYTES - STACK_PIECE_BYTES || len > STACK_PIECE_BYTES {
        return 0;
    }
    let Some(place) = bytes.get_mut(at..at + len) else {
        return 0;
    };
    // SAFETY: the helper writes `len` bytes, which fit, and fails on a bad address.
    let failed = unsafe {
        bpf_probe_read_user(
            place.as_mut_ptr().cast(),
            len as u32,
            (address + at as u64) as *const _,
        )
    };
    if failed == 0 { len } else { 0 }
}
