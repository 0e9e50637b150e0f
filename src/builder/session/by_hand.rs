//! Services that are written out rather than generated from a schema, because their messages are ours.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError, http};
use tonic::server::NamedService;

/// A service, but for what all of them have.
pub(super) trait Answer: Clone + Send + 'static {
    /// As its schema calls it.
    const NAME: &'static str;

    /// Answers a call of any of its methods.
    fn answer<B>(self, request: http::Request<B>) -> BoxFuture<'static, http::Response<Body>>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static;
}

/// What a server takes.
#[derive(Debug, Clone)]
pub(super) struct ByHand<T>(pub(super) T);

impl<T: Answer> NamedService for ByHand<T> {
    const NAME: &'static str = T::NAME;
}

impl<T, B> Service<http::Request<B>> for ByHand<T>
where
    T: Answer,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let answer = self.0.clone().answer(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
