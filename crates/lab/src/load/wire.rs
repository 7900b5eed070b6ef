//! The generator's connections: HTTP/1.1, keep-alive, one request at a time.
//!
//! A connection is driven by the task that waits for its answer, so a request needs no switch
//! between tasks. Deliberately not here: TLS, retries of sent requests, and the content of
//! requests.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request to be sent.
pub type PreparedRequest = Request<Full<Bytes>>;

/// The most bytes of an answer that are read.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// Why a URL is unsuitable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlace {
    /// TLS would distort the measurement.
    #[error(
        "{0}: the load generator supports http:// only; measure the server directly, behind the \
         proxy that terminates TLS"
    )]
    Tls(String),
    /// Not a URL.
    #[error("{0:?} is not the URL of a server: use http://host:port")]
    Wrong(String),
}

/// The target of requests.
#[derive(Clone, Debug)]
pub struct RequestTarget {
    /// `host:port`, to connect to.
    authority: String,
    host: HeaderValue,
    /// The path of the URL, without a slash at its end.
    pub path: String,
    /// Timeout of one request, including connecting.
    pub timeout: Duration,
}

impl RequestTarget {
    /// Parses `http://host:port/path`.
    ///
    /// # Errors
    /// [`BadPlace`]: https, or not a server's URL.
    pub fn parse(url: &str, timeout: Duration) -> Result<Self, BadPlace> {
        let wrong = || BadPlace::Wrong(url.to_owned());
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        if parsed.scheme() == "https" {
            let host = parsed.host_str().unwrap_or_default();
            return Err(BadPlace::Tls(format!("https://{host}")));
        }
        let plain = parsed.username().is_empty() && parsed.password().is_none();
        let (Some(host), "http", true) = (parsed.host_str(), parsed.scheme(), plain) else {
            return Err(BadPlace::Wrong(parsed.scheme().to_owned() + "://…"));
        };
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong());
        }
        let authority = format!("{host}:{}", parsed.port().unwrap_or(80));
        let shown = HeaderValue::from_str(&authority).map_err(|_| wrong())?;
        let path = parsed.path().trim_end_matches('/').to_owned();
        Ok(Self { authority, host: shown, path, timeout })
    }

    /// The `Host` header of requests.
    #[must_use]
    pub const fn host(&self) -> &HeaderValue {
        &self.host
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RequestFault {
    /// No connection could be made; nothing was sent.
    Connect,
    /// The connection was closed before the answer was complete.
    Closed,
    /// It timed out.
    Timeout,
    /// The answer is too large.
    TooLarge,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    line: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    over: bool,
}

/// A connection that is opened when it is needed, and again when the server has closed it.
pub struct HttpLink {
    place: Rc<RequestTarget>,
    open: Option<Open>,
    body: Vec<u8>,
}

impl HttpLink {
    /// A link that is not connected yet.
    #[must_use]
    pub fn new(place: Rc<RequestTarget>) -> Self {
        Self { place, open: None, body: Vec::with_capacity(4096) }
    }

    /// Its target.
    #[must_use]
    pub fn place(&self) -> &RequestTarget {
        &self.place
    }

    /// The body of the last answer.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Connects, unless it is connected.
    ///
    /// # Errors
    /// [`RequestFault::Connect`] and [`RequestFault::Timeout`].
    pub async fn connect(&mut self) -> Result<(), RequestFault> {
        if self.open.is_none() {
            let timeout = self.place.timeout;
            let open = tokio::time::timeout(timeout, connect(&self.place)).await;
            self.open = Some(open.map_err(|_| RequestFault::Timeout)??);
        }
        Ok(())
    }

    /// Sends a request and reads the answer; returns its status. The request is sent once. Only if
    /// nothing of it could be sent, because the server had closed an idle connection, it is sent
    /// over a new connection.
    ///
    /// # Errors
    /// [`RequestFault`].
    pub async fn send(&mut self, ask: PreparedRequest) -> Result<u16, RequestFault> {
        let timeout = self.place.timeout;
        let outcome = tokio::time::timeout(timeout, self.exchange(ask)).await;
        let outcome = outcome.unwrap_or(Err(RequestFault::Timeout));
        if outcome.is_err() || self.open.as_ref().is_some_and(|open| open.over) {
            self.open = None;
        }
        outcome
    }

    async fn exchange(&mut self, ask: PreparedRequest) -> Result<u16, RequestFault> {
        self.body.clear();
        let mut unsent = Some(ask);
        loop {
            let fresh = self.open.is_none();
            let mut open = match self.open.take() {
                Some(open) => open,
                None => connect(&self.place).await?,
            };
            match talk(&mut open, &mut unsent, &mut self.body).await {
                // Nothing was sent yet, and the connection may have been idle for too long.
                Err(_) if unsent.is_some() && !fresh => {}
                outcome => {
                    self.open = Some(open);
                    return outcome;
                }
            }
        }
    }
}

async fn connect(place: &RequestTarget) -> Result<Open, RequestFault> {
    let socket = TcpStream::connect(&place.authority).await.map_err(|_| RequestFault::Connect)?;
    socket.set_nodelay(true).map_err(|_| RequestFault::Connect)?;
    let (sender, line) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|_| RequestFault::Connect)?;
    Ok(Open { sender, line: Box::pin(line), over: false })
}

/// One request and its answer, driving the connection meanwhile.
async fn talk(
    open: &mut Open,
    ask: &mut Option<PreparedRequest>,
    body: &mut Vec<u8>,
) -> Result<u16, RequestFault> {
    let Open { sender, line, over } = open;
    let mut talk = pin!(async {
        sender.ready().await.map_err(|_| RequestFault::Closed)?;
        let Some(request) = ask.take() else { return Err(RequestFault::Closed) };
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                *ask = error.take_message();
                return Err(RequestFault::Closed);
            }
        };
        let status = response.status().as_u16();
        let mut answer = response.into_body();
        while let Some(frame) = answer.frame().await {
            let Ok(data) = frame.map_err(|_| RequestFault::Closed)?.into_data() else { continue };
            if body.len() + data.len() > ANSWER_MAX_BYTES {
                return Err(RequestFault::TooLarge);
            }
            body.extend_from_slice(&data);
        }
        Ok(status)
    });
    poll_fn(|context| {
        // Twice: the first poll of the request may give the connection bytes to send, and the poll
        // of the connection may give the request bytes that were received.
        for _ in 0..2 {
            if let Poll::Ready(outcome) = talk.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            if !*over && line.as_mut().poll(context).is_ready() {
                *over = true;
            }
        }
        if *over { talk.as_mut().poll(context) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_tls_is_refused() {
        let read = |url: &str| RequestTarget::parse(url, Duration::from_secs(1));
        let place = read("http://h:1/a/").unwrap();
        assert_eq!((place.authority.as_str(), place.path.as_str()), ("h:1", "/a"));
        assert_eq!(read("http://h").unwrap().authority, "h:80");
        let tls = read("https://me:secret@h:1").unwrap_err();
        assert!(tls.to_string().contains("http:// only") && !tls.to_string().contains("secret"));
        for bad in ["", "h:1", "ftp://h", "http://h/?a=b"] {
            assert!(matches!(read(bad), Err(BadPlace::Wrong(_))), "{bad}");
        }
        let secret = read("http://me:secret@h").unwrap_err();
        assert!(!secret.to_string().contains("secret"));
    }
}
