//! The operating system: polling, sockets, wake-ups, the clock. All system calls and all `unsafe`
//! of the crate are here; everything above sees safe Rust and `OwnedFd`.

mod clock;
mod fd;
mod memory;
mod poll;
mod socket;

pub use clock::{unix_micros, Clock};
pub use fd::duplicate;
pub use memory::trim_memory;
pub use poll::{Poll, PollEvents, Ready, Wake};
pub use socket::{
    abandon, accept, connect, connect_outcome, is_hung_up, names, path, port, read, stop_listening,
    write, Address, Io,
};
