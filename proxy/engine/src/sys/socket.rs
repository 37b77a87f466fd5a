//! Non-blocking stream sockets: TCP and unix.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// Where a backend listens. Names are resolved by the control plane; only numbers come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(String),
}

impl Address {
    /// Reads `ip:port`, `[ip6]:port` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Some(Address::Unix(path.to_owned())),
            Some(_) => None,
            None => text.parse().ok().map(Address::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// What a read or write on a socket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Done(usize),
    /// Nothing to read, or no room: wait for the next edge.
    Blocked,
    /// The peer closed (reads only).
    End,
    /// Reset, broken pipe and the like.
    Broken,
}

#[inline]
pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Io {
    loop {
        return match net::recv(fd, &mut *buffer, net::RecvFlags::empty()) {
            Ok((_, 0)) => Io::End,
            Ok((_, count)) => Io::Done(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Io::Blocked,
            Err(_) => Io::Broken,
        };
    }
}

#[inline]
pub fn write(fd: &OwnedFd, bytes: &[u8]) -> Io {
    loop {
        return match net::send(fd, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => Io::Done(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Io::Blocked,
            Err(_) => Io::Broken,
        };
    }
}

/// The next waiting client, or None when there is none.
///
/// # Errors
/// What the kernel says when it cannot give us a descriptor (EMFILE, ENFILE, ENOBUFS, ENOMEM).
pub fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    loop {
        return match net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => {
                // Fails on unix sockets, where there is nothing to switch off.
                let _ = net::sockopt::set_tcp_nodelay(&fd, true);
                Ok(Some(fd))
            }
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
}

/// Starts a connection; `connect_outcome` tells, once the socket is writable, what came of it.
///
/// # Errors
/// An immediate refusal, or no descriptor.
pub fn connect(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
    let result = match address {
        Address::Tcp(address) => {
            net::sockopt::set_tcp_nodelay(&fd, true)?;
            net::sockopt::set_socket_keepalive(&fd, true)?;
            net::connect(&fd, address)
        }
        Address::Unix(path) => net::connect(&fd, &SocketAddrUnix::new(path.as_str())?),
    };
    match result {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// What became of `connect`: Ok once established.
///
/// # Errors
/// Refused, unreachable, timed out by the kernel.
pub fn connect_outcome(fd: &OwnedFd) -> io::Result<()> {
    net::sockopt::socket_error(fd)?.map_err(io::Error::from)
}

/// True if the peer has closed its end, or the connection is broken, read or not.
pub fn is_hung_up(fd: &OwnedFd) -> bool {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(fd, gone)];
    let timeout = Timespec::default();
    let found = rustix::event::poll(&mut asked, Some(&timeout));
    found.is_ok() && asked[0].revents().intersects(gone)
}

/// Has the connection reset rather than closed when it is dropped, so that what the kernel still holds of
/// it is not delivered minutes later, when the peer's host or network comes back.
pub fn abandon(fd: &OwnedFd) {
    let _ = net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO));
}

/// `ip:port` of the peer and of our end, as CLIENT LIST shows them; a unix socket has neither.
pub fn names(fd: &OwnedFd) -> (String, String) {
    let text = |address: Option<net::SocketAddrAny>| {
        address
            .and_then(|any| SocketAddr::try_from(any).ok())
            .map_or(String::new(), |a| a.to_string())
    };
    (
        text(net::getpeername(fd).ok().flatten()),
        text(net::getsockname(fd).ok()),
    )
}

/// The path a unix socket is bound to, None for any other socket.
pub fn path(fd: &OwnedFd) -> Option<String> {
    let name = SocketAddrUnix::try_from(net::getsockname(fd).ok()?).ok()?;
    Some(name.path()?.to_string_lossy().into_owned())
}

/// The TCP port a socket is bound to; 0 for a unix socket.
pub fn port(fd: &OwnedFd) -> u16 {
    net::getsockname(fd)
        .ok()
        .and_then(|any| SocketAddr::try_from(any).ok())
        .map_or(0, |a| a.port())
}

/// Refuses new connections from now on, whoever else holds the socket; those in the queue are reset.
pub fn stop_listening(listener: &OwnedFd) {
    let _ = net::shutdown(listener, net::Shutdown::Both);
}
