//! The HTTP pages over real sockets: what they say, and what a client that behaves badly may take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidestep::config::HttpPath;
use sidestep::telemetry::http::{self, Counters, Limits, Local, Pages, Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// No step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

type Status = Result<(), Vec<String>>;

/// Pages that say what a test wants.
struct Scripted {
    metrics: String,
    health: RefCell<Status>,
    ready: RefCell<Status>,
    /// How long `/health` takes.
    health_takes: Cell<Duration>,
}

impl Pages for Scripted {
    fn metrics(&self) -> String {
        self.metrics.clone()
    }
    fn health(&self) -> Local<'_, Status> {
        Box::pin(async {
            sleep(self.health_takes.get()).await;
            self.health.borrow().clone()
        })
    }
    fn ready(&self) -> Status {
        self.ready.borrow().clone()
    }
}

/// A server that runs beside the test.
struct Bench {
    address: SocketAddr,
    pages: Rc<Scripted>,
    counters: Arc<Counters>,
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this, asks for the end of the connection, and reads to it.
    async fn say(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        to_the_end(&mut stream).await
    }
}

/// All that comes until the other side closes, with or without a reset.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8(bytes).unwrap()
}

/// Head and body.
fn parts(response: &str) -> (&str, &str) {
    response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"))
}

/// Runs a test beside a server of all pages with these limits.
fn with_server<F: Future<Output = ()>>(limits: Limits, metrics: &str, test: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Rc::new(Scripted {
            metrics: metrics.to_owned(),
            health: RefCell::new(Ok(())),
            ready: RefCell::new(Ok(())),
            health_takes: Cell::default(),
        });
        let counters = Arc::new(Counters::default());
        let paths = vec![HttpPath::Metrics, HttpPath::Health, HttpPath::Ready];
        let site = Site { paths, pages: pages.clone(), counters: counters.clone(), limits };
        tokio::select! {
            () = http::serve(listener, site) => panic!("the server ended"),
            done = timeout(PATIENCE, test(Bench { address, pages, counters })) => done.expect("the test ends"),
        }
    });
}

const METRICS: &str = "# HELP sidestep_x X\n# TYPE sidestep_x counter\nsidestep_x_total 1\n# EOF\n";

#[test]
fn the_pages() {
    with_server(Limits::default(), METRICS, |bench| async move {
        let response = bench.say("GET /health HTTP/1.1").await;
        let (head, body) = parts(&response);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        assert_eq!(body, "ok\n");
        let response = bench.say("GET /ready?verbose HTTP/1.1").await;
        assert_eq!(parts(&response).1, "ok\n", "a query string changes nothing");
        let response = bench.say("GET / HTTP/1.1").await;
        assert_eq!(parts(&response).1, "/metrics\n/health\n/ready\n");
    });
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    with_server(Limits::default(), METRICS, |bench| async move {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        let response = bench.say(&format!("GET /metrics HTTP/1.1\r\nAccept: {accept}")).await;
        let (head, body) = parts(&response);
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        assert_eq!(body, METRICS);
        let response = bench.say("GET /metrics HTTP/1.1\r\nAccept: */*").await;
        let (head, body) = parts(&response);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert_eq!(body, "# HELP sidestep_x_total X\n# TYPE sidestep_x_total counter\nsidestep_x_total 1\n");
    });
}

#[test]
fn a_503_names_its_reasons() {
    with_server(Limits::default(), METRICS, |bench| async move {
        *bench.pages.ready.borrow_mut() = Err(vec!["zone a.: silent".into(), "zone b.: silent".into()]);
        *bench.pages.health.borrow_mut() = Err(vec!["127.0.0.1:5300/udp did not answer".into()]);
        let response = bench.say("GET /ready HTTP/1.1").await;
        let (head, body) = parts(&response);
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(body, "zone a.: silent\nzone b.: silent\n");
        let response = bench.say("GET /health HTTP/1.1").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert_eq!(parts(&response).1, "127.0.0.1:5300/udp did not answer\n");
    });
}

#[test]
fn what_is_not_served() {
    with_server(Limits::default(), METRICS, |bench| async move {
        let response = bench.say("GET /metric HTTP/1.1").await;
        let (head, body) = parts(&response);
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert!(body.ends_with("\n/metrics\n/health\n/ready\n"), "{body}");
        for method in ["POST", "DELETE", "BREW"] {
            let response = bench.say(&format!("{method} /health HTTP/1.1\r\nContent-Length: 0")).await;
            assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
            assert!(parts(&response).0.contains("allow: GET, HEAD"), "{response}");
        }
        let response =
            bench.say(&format!("GET /health HTTP/1.1\r\nX: {}", "x".repeat(http::HEAD_SIZE))).await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
        let response = bench.say("this is no HTTP").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert_eq!(bench.counters.broken.get(), 2);
    });
}

#[test]
fn head_is_get_without_the_body() {
    with_server(Limits::default(), METRICS, |bench| async move {
        let response = bench.say("HEAD /health HTTP/1.1").await;
        let (head, body) = parts(&response);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-length: 3"), "{head}");
        assert_eq!(body, "");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_server(Limits::default(), METRICS, |bench| async move {
        bench.pages.health_takes.set(Duration::from_millis(20));
        let mut stream = bench.connect().await;
        let requests = "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n\
                        HEAD /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(requests.as_bytes()).await.unwrap();
        let all = to_the_end(&mut stream).await;
        let statuses: Vec<_> =
            all.lines().filter_map(|l| l.split("HTTP/1.1 ").nth(1)).map(|s| &s[..3]).collect();
        assert_eq!(statuses, ["200", "404", "200"], "{all}");
        assert_eq!(bench.counters.accepted.get(), 1);
    });
}

#[test]
fn a_slow_client_is_closed_and_delays_nobody() {
    let limits = Limits { head: Duration::from_millis(500), ..Limits::default() };
    with_server(limits, METRICS, |bench| async move {
        let mut slow = bench.connect().await;
        slow.write_all(b"GET /health HTTP/1.1\r\nHo").await.unwrap();
        let started = Instant::now();
        assert_eq!(parts(&bench.say("GET /health HTTP/1.1").await).1, "ok\n");
        assert_eq!(bench.counters.broken.get(), 0, "the others do not wait for its end");
        let rest = to_the_end(&mut slow).await;
        assert!(!rest.contains("200 OK"), "{rest}");
        assert!(started.elapsed() >= limits.head / 2);
        // An idle connection, with nothing said at all, ends as well.
        assert_eq!(to_the_end(&mut bench.connect().await).await, "");
        assert_eq!(bench.counters.broken.get(), 2);
    });
}

#[test]
fn an_answer_that_takes_too_long_is_a_503() {
    let limits = Limits { answer: Duration::from_millis(100), ..Limits::default() };
    with_server(limits, METRICS, |bench| async move {
        bench.pages.health_takes.set(PATIENCE * 2);
        let response = bench.say("GET /health HTTP/1.1").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert_eq!(parts(&response).1, "no result within 100ms\n");
    });
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let limits =
        Limits { age: Duration::from_millis(200), answer: Duration::from_millis(100), ..Limits::default() };
    // More than the sockets' buffers take.
    let page = "sidestep_x_total 1\n".repeat(1 << 20);
    let length = page.len();
    with_server(limits, &page, |bench| async move {
        let mut stream = bench.connect().await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        while bench.counters.aged.get() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        let got = to_the_end(&mut stream).await;
        assert!(got.len() < length, "the answer was given up half way");
    });
}

#[test]
fn an_old_connection_is_closed_in_order() {
    let limits = Limits { age: Duration::from_millis(100), ..Limits::default() };
    with_server(limits, METRICS, |bench| async move {
        bench.pages.health_takes.set(Duration::from_millis(300));
        let mut stream = bench.connect().await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let all = to_the_end(&mut stream).await;
        assert_eq!(parts(&all).1, "ok\n", "what was asked before is still answered");
        assert_eq!((bench.counters.aged.get(), bench.counters.broken.get()), (0, 0));
    });
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let limits = Limits { connections: 2, ..Limits::default() };
    with_server(limits, METRICS, |bench| async move {
        let mut held = [bench.connect().await, bench.connect().await];
        for stream in &mut held {
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut buffer = [0; 12];
            stream.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"HTTP/1.1 200");
        }
        assert_eq!(to_the_end(&mut bench.connect().await).await, "");
        assert_eq!(bench.counters.connections_limit.get(), 1);
        drop(held);
        // There is room again as soon as the server has seen them go.
        while bench.counters.open.get() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(parts(&bench.say("GET /health HTTP/1.1").await).1, "ok\n");
    });
}
