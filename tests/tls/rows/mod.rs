//! The table, by the leg that a row is about.

mod binding;
mod client_leg;
mod server_leg;

use crate::row::Row;

pub fn all() -> Vec<Row> {
    [server_leg::rows(), client_leg::rows(), binding::rows()].concat()
}
