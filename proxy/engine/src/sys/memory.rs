//! The allocator's memory.
#![allow(unsafe_code)]

/// Gives back to the system what the allocator keeps of freed memory: glibc's keeps as much as ever was in
/// use in blocks of up to 32 MiB. It takes milliseconds where there is much of it; elsewhere it does nothing.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    {
        use std::ffi::{c_int, c_void};
        extern "C" {
            fn malloc(size: usize) -> *mut c_void;
            fn free(block: *mut c_void);
            fn malloc_trim(pad: usize) -> c_int;
            fn mallopt(option: c_int, value: c_int) -> c_int;
        }
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_THRESHOLD: c_int = -3;
        const KIB: c_int = 1024;
        // `malloc_trim` leaves out what is free at the end of a thread's heap. That goes when a block of more than
        // 64 KiB is freed and more than the threshold is free there; afterwards the thresholds are as far up as
        // glibc, left to itself, moves them.
        // SAFETY: these take the allocator's own locks, and only pages without live blocks are given back.
        unsafe {
            mallopt(M_TRIM_THRESHOLD, 128 * KIB);
            free(std::hint::black_box(malloc(100 * KIB as usize)));
            malloc_trim(0);
            mallopt(M_MMAP_THRESHOLD, 32 * KIB * KIB);
            mallopt(M_TRIM_THRESHOLD, 64 * KIB * KIB);
        }
    }
}
