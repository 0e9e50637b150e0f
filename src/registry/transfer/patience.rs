//! How often something is tried that may go better the next time.

use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciErrorCode};

/// How often in a row nothing may come of it.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Counts the tries of one thing that came to nothing.
#[derive(Debug, Default)]
pub(in crate::registry) struct Patience {
    failed: u32,
}

impl Patience {
    /// Waits before the next try, a while longer each time; false when there is to be none.
    pub(in crate::registry) async fn wait(&mut self) -> bool {
        match self.next() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return false,
        }
        true
    }

    fn next(&mut self) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        let doubled = 1_u32.checked_shl(self.failed.saturating_sub(1)).unwrap_or(u32::MAX);
        (self.failed < TRIES).then(|| FIRST_WAIT.saturating_mul(doubled))
    }

    /// Something came of a try.
    pub(super) fn renew(&mut self) {
        self.failed = 0;
    }
}

/// Whether the same question may have another answer a moment later.
pub(in crate::registry) fn may_pass(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(error) => {
            error.status().is_none_or(|status| is_overworked(status.as_u16()))
        }
        OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => is_overworked(*code),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| error.code == OciErrorCode::Toomanyrequests)
        }
        _ => false,
    }
}

fn is_overworked(status: u16) -> bool {
    status == 429 || status >= 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_and_is_renewed() {
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.next()).collect();
        assert_eq!(waits, [1, 2, 4, 8].map(|times| FIRST_WAIT * times));
        patience.renew();
        assert_eq!(patience.next(), Some(FIRST_WAIT));
    }

    #[test]
    fn an_overworked_server_is_asked_again_and_a_plain_answer_holds() {
        let answer =
            |code| OciDistributionError::ServerError { code, url: String::new(), message: String::new() };
        assert!([429, 500, 503].map(answer).iter().all(may_pass));
        assert!(![401, 404, 416].map(answer).iter().any(may_pass));
    }
}
