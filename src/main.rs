//! The `pgwhy` program: everything it does is in the library.

fn main() -> std::process::ExitCode {
    pgwhy::app::main()
}
