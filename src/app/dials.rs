//! The tries to reach a server: as `net` tells them, as the diagnosis reads them, as a report shows them.

use std::io;
use std::time::Duration;

use crate::diagnose::context::{Dial, DialFault};
use crate::handshake::Step;
use crate::net::{DialAttempt, DialError, PeerAddr};
use crate::report::Way;

/// A try for the diagnosis.
pub(super) fn dial(attempt: &DialAttempt) -> Dial {
    let result = attempt.result.as_ref().map(|_| ()).map_err(|error| match error {
        DialError::NameNotFound => DialFault::NameNotFound,
        DialError::NameTemporary => DialFault::NameTemporary,
        DialError::Refused => DialFault::Refused,
        DialError::Timeout => DialFault::Timeout,
        DialError::Unreachable => DialFault::Unreachable,
        DialError::HostUnreachable => DialFault::HostUnreachable,
        DialError::SocketMissing => DialFault::SocketMissing,
        DialError::Loop => DialFault::Loop,
        other => DialFault::Other(other.to_string()),
    });
    let address = attempt.addr.as_ref().map(ToString::to_string);
    Dial { host: attempt.host.clone(), address, took: attempt.elapsed, result }
}

/// A try of a capture, where the diagnosis has noted it.
pub(super) fn dialled(dial: &Dial) -> DialAttempt {
    let result = dial.result.clone().map_err(|fault| match fault {
        DialFault::NameNotFound => DialError::NameNotFound,
        DialFault::NameTemporary => DialError::NameTemporary,
        DialFault::Refused => DialError::Refused,
        DialFault::Timeout => DialError::Timeout,
        DialFault::Unreachable => DialError::Unreachable,
        DialFault::HostUnreachable => DialError::HostUnreachable,
        DialFault::SocketMissing => DialError::SocketMissing,
        DialFault::Loop => DialError::Loop,
        DialFault::Other(_) => DialError::Other(io::ErrorKind::Other),
    });
    let addr = dial.address.as_ref().and_then(|addr| Some(PeerAddr::Tcp(addr.parse().ok()?)));
    DialAttempt { host: dial.host.clone(), addr, started: Duration::ZERO, elapsed: dial.took, result }
}

/// The way to the server for the report.
pub(super) fn way(dials: &[Dial]) -> Way {
    let last = dials.last();
    Way {
        address: last.map(|dial| dial.address.clone().unwrap_or_else(|| dial.host.clone())),
        reached: last.map(|dial| dial.result.is_ok()),
        took: dials.iter().map(|dial| dial.took).sum(),
        step: last.map(|dial| if dial.address.is_none() { Step::Resolve } else { Step::Connect }),
    }
}
