//! Errors in one line.

use crate::printable::printable;

/// An error and its causes, "what: why: why", each cause once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

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

    #[test]
    fn each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the context")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("it is gone"))), "cannot read the context: it is gone");
    }
}
