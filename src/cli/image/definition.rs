//! Where a definition comes from: files, standard input, the network.

use std::io::Read;

use images::{Part, Source};

use crate::cli::download::{self, DownloadError};

/// The argument that stands for standard input.
pub(super) const STDIN: &str = "-";
/// No definition is as long.
const LONGEST: usize = 4 << 20;

/// Why a part of a definition cannot be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DefinitionError {
    #[error("cannot read standard input")]
    Stdin(#[source] std::io::Error),
    #[error(transparent)]
    Join(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("standard input has more than 4 MiB, which no definition has")]
    Long,
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
        } else if download::is_address(&argument) {
            let bytes = download::get(&argument, "definition", LONGEST).await?;
            Part::Text { text: text(&argument, bytes)?, name: argument }
        } else {
            Part::File(argument.into())
        });
    }
    Ok(Source::Parts(parts))
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, DefinitionError> {
    String::from_utf8(bytes).map_err(|_| DefinitionError::Encoding(name.to_owned()))
}

fn stdin() -> Result<Vec<u8>, DefinitionError> {
    let mut bytes = Vec::new();
    // As much as tells that it is too long.
    let limit = LONGEST as u64 + 1;
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(DefinitionError::Stdin)?;
    if bytes.len() > LONGEST { Err(DefinitionError::Long) } else { Ok(bytes) }
}
