//! Descriptors that come from outside as plain numbers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A descriptor of our own for the socket behind `raw`, which stays the caller's; both are
/// non-blocking from here on, since the flag belongs to the socket.
///
/// # Errors
/// `EBADF` when `raw` is not open.
pub fn duplicate(raw: RawFd) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::from_raw_os_error(9));
    }
    // SAFETY: the borrow lasts for this call only; `fcntl(F_DUPFD_CLOEXEC)` reports EBADF if the
    // caller closed the descriptor meanwhile, and touches no memory of ours.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    let owned = borrowed.try_clone_to_owned()?;
    rustix::io::ioctl_fionbio(&owned, true)?;
    Ok(owned)
}
