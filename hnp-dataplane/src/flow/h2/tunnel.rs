//! CONNECT over HTTP/2 (RFC 9113 section 8.5): a tunnel that is a stream.

use http::request;

use super::session::{Current, Session};
use super::unless_gone;
use crate::access_log::ClosedBy;
use crate::flow::account::Account;
use crate::flow::{authorize, connect, identify};
use crate::http::answer::Answer;
use crate::http::h2::content::Content;
use crate::http::h2::exchange::{self, Idle, Progress, Refused};
use crate::http::h2::stream::{Client, Received};
use crate::http::h2::{raw, translate};
use crate::http::head::RequestParser;
use crate::http::proxy_status::{ErrorType, Side};
use crate::target::Target;

impl Current {
    /// One tunnel, to its end.
    pub(super) async fn tunnel(
        &self,
        session: &Session,
        head: &request::Parts,
        mut content: Content<Received>,
        client: &mut Client,
        account: &Account,
        progress: &Progress<'_>,
    ) -> Result<(ClosedBy, &'static str), Refused> {
        account.asked("tunnel", head.method.as_str(), None, None);
        self.may_tunnel()?;
        let target = self.target(head)?;
        account.asked("tunnel", head.method.as_str(), Some(&target), None);
        let snapshot = self.snapshot();
        let credentials = head.headers.get(http::header::PROXY_AUTHORIZATION);
        let credentials = credentials.map(http::HeaderValue::as_bytes);
        let connected = async {
            identify::client(snapshot, credentials, account).await?;
            authorize::target(snapshot, account, &target)?;
            connect::dial(&session.worker, snapshot, account, &target).await
        };
        let about = |answer: Answer| answer.about(&target);
        let connected = async { connected.await.map_err(about) };
        let upstream = unless_gone(connected, client).await?;
        let _open = session.worker.metrics.tunnel();
        let mut down = raw::Upstream::new(&upstream.stream, upstream.early);
        let mut up = raw::Request::new(&upstream.stream);
        let timeouts = &snapshot.config.timeouts;
        let ended = exchange::both(
            &mut content,
            &mut up,
            &mut down,
            client,
            progress,
            Idle::of_stream(timeouts),
            timeouts.tunnel_lifetime.map(|lifetime| lifetime.0),
        )
        .await;
        match ended {
            Ok(exchange::Ended::Client) => Ok((ClosedBy::Client, "eof")),
            Ok(exchange::Ended::Upstream) => Ok((ClosedBy::Upstream, "eof")),
            Ok(exchange::Ended::Expired) => {
                client.reset(h2::Reason::CANCEL);
                Ok((ClosedBy::Hnp, "lifetime"))
            }
            Err(failure) => {
                upstream.stream.reset_on_close();
                Err(Refused::Failure(failure))
            }
        }
    }

    fn target(&self, head: &request::Parts) -> Result<Target, Answer> {
        let written = translate::request_to_http1(head, true)?;
        match RequestParser::new().parse(&written, &self.snapshot().head)? {
            Some((request, _)) => Ok(request.proxy_target()?.clone()),
            None => Err(Answer::new(
                400,
                ErrorType::HttpRequestError,
                Side::Client,
                "the request's head does not end where it should",
            )),
        }
    }
}
