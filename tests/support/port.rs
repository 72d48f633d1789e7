//! Ports for servers that must know theirs before they listen, and for those that nobody may answer at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// A port of 127.0.0.1, and of ::1 where there is one, that nobody gets by chance as long as this is held.
///
/// Sockets are bound to it and do not listen: who connects is refused, and a server that is given the number
/// can listen all the same, since both sides set `SO_REUSEADDR`. The kernel gives such a port neither to
/// those who ask it for any port nor to those who connect, and so none of them is ever connected with itself.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    _held: Vec<OwnedFd>,
}

impl Port {
    /// Takes one that is free.
    pub fn reserve() -> Self {
        loop {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let four = bound(any).expect("a free port");
            let name: SocketAddr = getsockname(&four).expect("its name").try_into().expect("an address");
            let number = name.port();
            if !has_ipv6() {
                return Self { number, _held: vec![four] };
            }
            // Somebody may have it for the other address.
            if let Ok(six) = bound(SocketAddr::from((Ipv6Addr::LOCALHOST, number))) {
                return Self { number, _held: vec![four, six] };
            }
        }
    }

    /// Its address for IPv4.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Whether this machine has ::1.
pub fn has_ipv6() -> bool {
    bound(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok()
}

fn bound(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &addr)?;
    Ok(socket)
}
