//! A file of the web that is small enough to be held in memory.

use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(60);

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("cannot get {url}")]
    Get { url: String, source: reqwest::Error },
    #[error("{url} is answered with {status}")]
    Status { url: String, status: reqwest::StatusCode },
    #[error("{url} has more than {} MiB, which no {what} has", .longest >> 20)]
    Long { url: String, what: &'static str, longest: usize },
}

/// Whether an argument is the address of such a file.
pub(super) fn is_address(argument: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| argument.starts_with(scheme))
}

/// All of the file, `what` it is meant to be.
pub(super) async fn get(url: &str, what: &'static str, longest: usize) -> Result<Vec<u8>, DownloadError> {
    let failed = |source| DownloadError::Get { url: url.to_owned(), source };
    // Only the first call in a process installs it; that it is installed already is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(READ).build();
    let mut response = client.map_err(failed)?.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(DownloadError::Status { url: url.to_owned(), status: response.status() });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > longest {
            return Err(DownloadError::Long { url: url.to_owned(), what, longest });
        }
    }
    Ok(bytes)
}
