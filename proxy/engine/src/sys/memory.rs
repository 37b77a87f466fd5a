//! The allocator's memory.
#![allow(unsafe_code)]

/// Gives back to the system what the allocator keeps of freed memory: glibc's keeps as much as ever was in
/// use in blocks of up to 32 MiB. It takes milliseconds where there is much of it; elsewhere it does nothing.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    {
        extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it takes the allocator's own locks, and only pages without live blocks are given back.
        unsafe {
            malloc_trim(0);
        }
    }
}
