#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgwhy::fuzzing::tls_opener(data));
