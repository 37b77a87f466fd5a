//! epoll and eventfd.
//!
//! Sockets are registered once, for input and output, edge-triggered, and never again: a worker
//! writes at the end of each turn and learns from the edge when a full socket has room. That is
//! what saves the four `epoll_ctl` calls per request that twemproxy makes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{epoll, eventfd, EventfdFlags, Timespec};

/// What happened to one registered descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer closed or the connection broke: read until the end shows itself.
    pub closing: bool,
}

/// Room for the events of one turn.
pub struct PollEvents(Vec<epoll::Event>);

impl PollEvents {
    pub fn new(capacity: usize) -> Self {
        PollEvents(Vec::with_capacity(capacity))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn get(&self, i: usize) -> Ready {
        let event = self.0[i];
        let flags = event.flags;
        Ready {
            token: event.data.u64(),
            readable: flags.intersects(epoll::EventFlags::IN),
            writable: flags.intersects(epoll::EventFlags::OUT),
            closing: flags.intersects(
                epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
            ),
        }
    }
}

pub struct Poll(OwnedFd);

impl Poll {
    pub fn new() -> io::Result<Self> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Registers a connection for good; see the module text.
    pub fn add_connection(&self, fd: &OwnedFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            flags,
        )?)
    }

    /// Registers a listener that several workers share; the kernel wakes one of them.
    pub fn add_listener(&self, fd: &OwnedFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        Ok(epoll::add(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            flags,
        )?)
    }

    pub fn add_wake(&self, wake: &Wake, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN;
        Ok(epoll::add(
            &self.0,
            &wake.0,
            epoll::EventData::new_u64(token),
            flags,
        )?)
    }

    pub fn remove(&self, fd: &OwnedFd) {
        // Closing the last descriptor removes it anyway; a failure here has no consequence.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits for events, at most `timeout_ms` (None: for ever). An interrupted wait has no events.
    pub fn wait(&self, events: &mut PollEvents, timeout_ms: Option<u32>) -> io::Result<()> {
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: i64::from(ms / 1000),
            tv_nsec: i64::from(ms % 1000) * 1_000_000,
        });
        events.0.clear();
        match epoll::wait(
            &self.0,
            rustix::buffer::spare_capacity(&mut events.0),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An eventfd: wakes a worker from another thread, or Python from a worker.
pub struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> io::Result<Self> {
        Ok(Wake(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    pub fn signal(&self) {
        // EAGAIN means the counter is full, so a wake-up is pending already.
        let _ = rustix::io::write(self.0.as_fd(), &1u64.to_ne_bytes());
    }

    pub fn clear(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(self.0.as_fd(), &mut count);
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
