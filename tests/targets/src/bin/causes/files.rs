//! Reads that go to the disk, writes that wait for it, and mapped pages that are not there yet.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Instant;

use targets::truth::span;

use crate::{pause, LONG_MS};

const FILE_BYTES: usize = 64 << 20;
const CHUNK: usize = 8 << 20;

/// A file in the current directory, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Scratch(PathBuf::from(format!(
            "causes-{}-{name}.tmp",
            std::process::id()
        )))
    }

    fn filled(name: &str) -> Self {
        let scratch = Self::new(name);
        let mut file = File::create(&scratch.0).expect("the current directory can be written");
        let chunk = vec![7_u8; CHUNK];
        for _ in 0..FILE_BYTES / CHUNK {
            file.write_all(&chunk).expect("room on the disk");
        }
        file.sync_all().expect("the disk works");
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn long_enough(start: Instant) -> bool {
    start.elapsed().as_millis() as u64 >= LONG_MS
}

/// Makes the kernel forget the cached pages of `file`.
fn forget(file: &File) {
    // SAFETY: a valid descriptor; the advice changes no data.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

// @file_io_task
pub async fn file_io_task(rounds: u32) {
    let scratch = Scratch::filled("read");
    let layout = std::alloc::Layout::from_size_align(CHUNK, 4096).expect("a valid layout");
    // SAFETY: the layout has a size; O_DIRECT wants an aligned buffer, which is leaked at the end
    // of the process.
    let buffer = unsafe { std::slice::from_raw_parts_mut(std::alloc::alloc_zeroed(layout), CHUNK) };
    for _ in 0..rounds {
        file_io_child(&scratch, buffer).await;
    }
    // Removing the file takes time too: not in the poll of the last call.
    pause().await;
}

// @file_io_child
async fn file_io_child(scratch: &Scratch, buffer: &mut [u8]) {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&scratch.0)
        .expect("the file is there");
    pause().await;
    file_io_call(&mut file, buffer);
}

#[inline(never)]
// @file_io_call
fn file_io_call(file: &mut File, buffer: &mut [u8]) {
    let _span = span("file_io");
    let start = Instant::now();
    while !long_enough(start) {
        if file.read(buffer).expect("the disk works") == 0 {
            file.seek(SeekFrom::Start(0)).expect("a regular file");
        }
    }
}

// @cached_read_task
pub async fn cached_read_task(rounds: u32) {
    let scratch = Scratch::filled("cached");
    let mut buffer = vec![0; CHUNK];
    for _ in 0..rounds {
        cached_read_child(&scratch, &mut buffer).await;
    }
    // Removing the file takes time too: not in the poll of the last call.
    pause().await;
}

// @cached_read_child
async fn cached_read_child(scratch: &Scratch, buffer: &mut [u8]) {
    let mut file = File::open(&scratch.0).expect("the file is there");
    pause().await;
    cached_read_call(&mut file, buffer);
}

/// The disk is not asked: the kernel copies what it has.
#[inline(never)]
// @cached_read_call
fn cached_read_call(file: &mut File, buffer: &mut [u8]) {
    let _span = span("cached_read");
    let start = Instant::now();
    while !long_enough(start) {
        if file.read(buffer).expect("the file is there") == 0 {
            file.seek(SeekFrom::Start(0)).expect("a regular file");
        }
    }
}

// @fresh_memory_task
pub async fn fresh_memory_task(rounds: u32) {
    for _ in 0..rounds {
        fresh_memory_child().await;
    }
}

// @fresh_memory_child
async fn fresh_memory_child() {
    pause().await;
    fresh_memory_call();
}

/// The kernel finds and clears each page at its first touch.
#[inline(never)]
// @fresh_memory_call
fn fresh_memory_call() {
    let _span = span("fresh_memory");
    let start = Instant::now();
    while !long_enough(start) {
        let mut memory = Vec::<u8>::with_capacity(FILE_BYTES);
        for page in memory.spare_capacity_mut().iter_mut().step_by(4096) {
            page.write(1);
            std::hint::black_box(page);
        }
    }
}

// @fsync_task
pub async fn fsync_task(rounds: u32) {
    let scratch = Scratch::new("sync");
    let mut file = File::create(&scratch.0).expect("the current directory can be written");
    for _ in 0..rounds {
        fsync_child(&mut file).await;
    }
    // Removing the file takes time too: not in the poll of the last call.
    pause().await;
}

// @fsync_child
async fn fsync_child(file: &mut File) {
    pause().await;
    fsync_call(file);
}

#[inline(never)]
// @fsync_call
fn fsync_call(file: &mut File) {
    let _span = span("fsync");
    let start = Instant::now();
    let chunk = vec![9_u8; 64 << 10];
    while !long_enough(start) {
        file.seek(SeekFrom::Start(0)).expect("a regular file");
        file.write_all(&chunk).expect("room on the disk");
        file.sync_all().expect("the disk works");
    }
}

// @page_fault_task
pub async fn page_fault_task(rounds: u32) {
    let scratch = Scratch::filled("map");
    let file = File::open(&scratch.0).expect("the file is there");
    for _ in 0..rounds {
        page_fault_child(&file).await;
    }
    // Removing the file takes time too: not in the poll of the last call.
    pause().await;
}

// @page_fault_child
async fn page_fault_child(file: &File) {
    pause().await;
    page_fault_call(file);
}

#[inline(never)]
// @page_fault_call
fn page_fault_call(file: &File) {
    let _span = span("page_fault");
    let start = Instant::now();
    while !long_enough(start) {
        touch_cold_pages(file);
    }
}

/// Maps the whole file anew and reads one byte in every 128 KiB: each is a wait for the disk.
#[inline(always)]
fn touch_cold_pages(file: &File) {
    forget(file);
    // SAFETY: a private read-only mapping of a file that nobody truncates.
    let map = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            FILE_BYTES,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: the mapping is FILE_BYTES long and stays until munmap.
    let bytes = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), FILE_BYTES) };
    let start = Instant::now();
    for byte in bytes.iter().step_by(128 << 10) {
        std::hint::black_box(*byte);
        if long_enough(start) {
            break;
        }
    }
    // SAFETY: the mapping made above; `bytes` is not used any more.
    unsafe { libc::munmap(map, FILE_BYTES) };
}
