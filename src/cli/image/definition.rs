//! Where a definition comes from: files, standard input, the network.

use std::io::Read;
use std::time::Duration;

use images::{Part, Source};

/// The argument that stands for standard input.
pub(super) const STDIN: &str = "-";
/// No definition is as long.
const LONGEST: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(20);
const READ: Duration = Duration::from_secs(60);

/// Why a part of a definition cannot be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DefinitionError {
    #[error("cannot read standard input")]
    Stdin(#[source] std::io::Error),
    #[error(transparent)]
    Join(#[from] tokio::task::JoinError),
    #[error("cannot get {url}")]
    Get { url: String, source: reqwest::Error },
    #[error("{url} is answered with {status}")]
    Status { url: String, status: reqwest::StatusCode },
    #[error("{0} has more than 4 MiB, which no definition has")]
    Long(String),
    #[error("{0} is not UTF-8")]
    Encoding(String),
}

/// The definition that these arguments make; without any, the one that this mvm carries.
pub(in crate::cli) async fn source(arguments: Vec<String>) -> Result<Source, DefinitionError> {
    if arguments.is_empty() {
        return Ok(Source::Embedded);
    }
    let mut parts = Vec::new();
    for argument in arguments {
        parts.push(if argument == STDIN {
            // On a thread of its own: Ctrl-C is heard meanwhile.
            let bytes = tokio::task::spawn_blocking(stdin).await??;
            Part::Text { name: "standard input".to_owned(), text: text("standard input", bytes)? }
        } else if ["http://", "https://"].iter().any(|scheme| argument.starts_with(scheme)) {
            let bytes = get(&argument).await?;
            Part::Text { text: text(&argument, bytes)?, name: argument }
        } else {
            Part::File(argument.into())
        });
    }
    Ok(Source::Parts(parts))
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, DefinitionError> {
    if bytes.len() > LONGEST {
        return Err(DefinitionError::Long(name.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| DefinitionError::Encoding(name.to_owned()))
}

/// As much as tells that it is too long.
fn stdin() -> Result<Vec<u8>, DefinitionError> {
    let mut bytes = Vec::new();
    let limit = LONGEST as u64 + 1;
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(DefinitionError::Stdin)?;
    Ok(bytes)
}

/// The same of a URL.
async fn get(url: &str) -> Result<Vec<u8>, DefinitionError> {
    let failed = |source| DefinitionError::Get { url: url.to_owned(), source };
    // Only the first call in a process installs it; that it is installed already is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(READ).build();
    let mut response = client.map_err(failed)?.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(DefinitionError::Status { url: url.to_owned(), status: response.status() });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            break;
        }
    }
    Ok(bytes)
}
