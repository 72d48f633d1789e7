//! `pgwhy demo`.
use super::Failure;
use super::cli::DemoArgs;
pub(super) fn run(_args: &DemoArgs) -> Result<(), Failure> {
    Err(Failure::failed("not yet"))
}
