//! The table, one file for each part of a login.

mod accepted;
mod first_bytes;
mod poolers;
mod refused_before_auth;
mod secrets;
mod session;
mod target;
mod tls;
mod variants;

use super::row::Row;

/// Every row.
pub fn all() -> Vec<Row> {
    [
        accepted::rows(),
        first_bytes::rows(),
        tls::rows(),
        refused_before_auth::rows(),
        secrets::rows(),
        variants::rows(),
        session::rows(),
        target::rows(),
        poolers::rows(),
    ]
    .concat()
}
