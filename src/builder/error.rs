//! What a status of gRPC says of why.

use crate::printable::printable;

/// The first cause alone: of a broken connection, what the layers above say of it is noise.
pub(crate) fn root(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_alone() {
        let broken = tonic::Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(root(&broken), "broken pipe");
        assert_eq!(root(&tonic::Status::unavailable("gone")), "gone");
    }
}
