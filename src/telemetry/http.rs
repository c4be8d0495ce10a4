//! The pages for machines: `/metrics`, `/health` and `/ready`, over HTTP/1.
//!
//! Each listener serves the paths that its configuration names, and `/` lists them. Everything is plain text,
//! GET or HEAD, and nothing is to be kept by a cache on the way. What the pages say comes from [`Pages`], so
//! this file knows of HTTP only.
//!
//! The pages are served on the supervisor's thread, never on a worker's. Still a client gets a bounded share:
//! [`Limits`] bound how many connections are open, how long one may take to say what it wants or sit idle,
//! how long an answer may take, and how long a connection lives, so one that does not read ends too.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::metrics;
use crate::config::HttpPath;
use crate::count::{Counter, Decades, Gauge};

/// Connections open at once at one listener; more are closed as they come.
pub const CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, or sit idle before the next one.
pub const HEAD: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
pub const HEAD_SIZE: usize = 16 * 1024;
/// How long an answer may take to make.
pub const ANSWER: Duration = Duration::from_secs(5);
/// How long a connection lives. It may then finish what it is at, for another [`ANSWER`].
pub const AGE: Duration = Duration::from_secs(120);
/// How long accepting rests after it failed.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Plain text, as people's browsers want it.
const PLAIN: &str = "text/plain; charset=utf-8";

/// The bounds on clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`CONNECTIONS`].
    pub connections: usize,
    /// See [`HEAD`].
    pub head: Duration,
    /// See [`ANSWER`].
    pub answer: Duration,
    /// See [`AGE`].
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS, head: HEAD, answer: ANSWER, age: AGE }
    }
}

/// What one listener counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Times a connection could not be accepted (no file descriptor was left, as a rule).
    pub accept_failed: Counter,
    /// Connections open now.
    pub open: Gauge,
    /// Connections closed at once because [`CONNECTIONS`] was reached.
    pub connections_limit: Counter,
    /// Connections that ended in an error: no whole head within [`HEAD`], bytes that are no HTTP, a reset.
    pub broken: Counter,
    /// Connections closed because they did not end by themselves after [`AGE`].
    pub aged: Counter,
    /// How long `/health` took to say something.
    pub health: Decades,
    /// Times it did not say that all is well.
    pub health_failed: Counter,
}

/// A future of this thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What the pages say.
pub trait Pages {
    /// `/metrics`, in the OpenMetrics format ([`metrics::render`]).
    fn metrics(&self) -> String;
    /// `/health`: well, or what is wrong, a reason an entry.
    fn health(&self) -> Local<'_, Result<(), Vec<String>>>;
    /// `/ready`: ready, or why not yet, a reason an entry.
    fn ready(&self) -> Result<(), Vec<String>>;
}

/// What one listener serves.
pub struct Site {
    /// The paths that are served here.
    pub paths: Vec<HttpPath>,
    /// What they say.
    pub pages: Rc<dyn Pages>,
    /// What is counted here; the thread that runs [`serve`] writes it.
    pub counters: Arc<Counters>,
    /// What clients may take.
    pub limits: Limits,
}

/// Serves a listener until the future is dropped, and with it every connection.
pub async fn serve(listener: TcpListener, site: Site) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = accept(&listener, &site.counters) => {
                site.counters.accepted.bump();
                // Not left waiting in the backlog: whoever comes now should hear that there is no room.
                if connections.len() < site.limits.connections {
                    connections.push(connection(stream, &site));
                } else {
                    site.counters.connections_limit.bump();
                }
            }
            Some(()) = connections.next() => {}
        }
        site.counters.open.set(connections.len() as u64);
    }
}

/// The next connection.
async fn accept(listener: &TcpListener, counters: &Counters) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => {
                counters.accept_failed.bump();
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// One connection from start to end.
async fn connection(stream: TcpStream, site: &Site) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(respond(&request, site).await) });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(site.limits.head)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut ended = timeout(site.limits.age, connection.as_mut()).await;
    if ended.is_err() {
        // Old: it may finish the request it is at, and takes no other.
        connection.as_mut().graceful_shutdown();
        ended = timeout(site.limits.answer, connection).await;
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(_)) => site.counters.broken.bump(),
        Err(_) => site.counters.aged.bump(),
    }
}

/// One request, one response.
async fn respond(request: &Request<Incoming>, site: &Site) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let page = site.paths.iter().copied().find(|&p| name(p) == path);
    if page.is_none() && path != "/" {
        return text(StatusCode::NOT_FOUND, format!("nothing is served here but\n{}", index(&site.paths)));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match page {
        None => text(StatusCode::OK, index(&site.paths)),
        Some(HttpPath::Metrics) => scraped(request.headers(), site.pages.metrics()),
        Some(HttpPath::Ready) => told(site.pages.ready()),
        Some(HttpPath::Health) => told(health(site).await),
    }
}

/// Whether we are well, counted.
async fn health(site: &Site) -> Result<(), Vec<String>> {
    let began = Instant::now();
    let health = match timeout(site.limits.answer, site.pages.health()).await {
        Ok(health) => health,
        Err(_) => Err(vec![format!("no result within {:?}", site.limits.answer)]),
    };
    site.counters.health.record(began.elapsed());
    if health.is_err() {
        site.counters.health_failed.bump();
    }
    health
}

/// The path of a page.
pub fn name(path: HttpPath) -> &'static str {
    match path {
        HttpPath::Metrics => "/metrics",
        HttpPath::Health => "/health",
        HttpPath::Ready => "/ready",
    }
}

/// The paths served here, one a line.
fn index(paths: &[HttpPath]) -> String {
    paths.iter().map(|&p| format!("{}\n", name(p))).collect()
}

/// The counters in the format that was asked for: OpenMetrics for who names it, otherwise the older text
/// format, which every scraper reads.
fn scraped(headers: &HeaderMap, openmetrics: String) -> Response<Full<Bytes>> {
    let wants_openmetrics = headers
        .get_all(ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|a| a.contains("application/openmetrics-text")));
    if wants_openmetrics {
        response(StatusCode::OK, metrics::OPENMETRICS, openmetrics)
    } else {
        response(StatusCode::OK, metrics::CLASSIC, metrics::classic(&openmetrics))
    }
}

/// `ok`, or 503 and the reasons, one a line.
fn told(status: Result<(), Vec<String>>) -> Response<Full<Bytes>> {
    match status {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reasons) => text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, PLAIN, body)
}

/// hyper leaves the body out where the request was HEAD, and keeps its length in the head (RFC 9110 section
/// 9.3.2).
fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
