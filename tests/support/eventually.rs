//! Waiting for what comes by itself.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; fails after so many seconds, with what was waited for and the last
/// reason why it was not there.
#[track_caller]
pub fn eventually<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) => assert!(Instant::now() < deadline, "{what}: not within {seconds} s: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
