#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| realmsync::fuzzing::users_file(data));
