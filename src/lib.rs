//! sidestep: a node-local DNS cache that steps around DNAT and conntrack.
//!
//! This page is the architecture document: the way a query travels, what must stay true on it, and what
//! lives where.
//!
//! # The road and the wings
//!
//! ```text
//! socket > listen::udp > wire::query > cache > wire::answer > socket      a HIT: one batch, no allocation,
//!               |                                                         no lock held across a system call
//!               | miss: (owned query, ReplyTo), on the same thread
//!               v
//! listen::tcp > resolve > flight > local > upstream > cache store > wire::answer > ReplyTo
//!
//! wings:  node  ·  config  ·  telemetry  ·  doctor  ·  lab  ·  cli
//! above everything: serve (start, reload, stop)
//! ```
//!
//! A *worker* is one OS thread with an event loop of its own. It owns its UDP sockets, its share of the TCP
//! clients, its upstream connections, its flights and its timers: a miss never leaves its thread, and there
//! is no cross-thread queue on the road. While nothing else is under way it waits for datagrams beside its event loop
//! ([`listen::arrivals`]), since for a lonely one waking up is most of the cost. Workers share the [`cache`], of which each has at hand what it is asked again
//! and again ([`cache::near`]), and an immutable
//! [snapshot](resolve::Snapshot) of the zones with the listeners' [settings](listen::Settings), nothing else.
//! A listener answers from its *view*: the zones that answer on its address; the same name may be another one there.
//! The *supervisor* is the main thread: it binds, starts the workers, has the [`node`]'s link and rules held, watches
//! files and signals, finds out the addresses behind services' names, publishes snapshots, and serves HTTP. What
//! touches the node is done by a thread of its own, the *holder*; a *watchdog* on another asks our own listeners.
//!
//! # What the road keeps true
//!
//! - A hit is answered from immutable response bytes: copy, then patch id, flags, the client's own question
//!   bytes (its letter case too) and the aged TTLs; an OPT record is appended iff the query had one. Nothing
//!   is decoded or encoded again, nothing is allocated.
//! - Whatever we do not understand passes byte for byte: unknown types, empty RDATA, order. Names that a server has
//!   written out become pointers, once, before the answer is stored; compression that is there stays as it is.
//! - OPT is hop by hop (RFC 6891): taken off at store, made anew for each client.
//! - At most one flight per worker and question; whoever completes a flight answers all its waiters.
//! - Every client hears within four seconds of its query being read: an answer, a stale answer, or SERVFAIL
//!   with a reason (RFC 8914). A datagram is read when it comes; a TCP connection that has
//!   [`listen::TCP_PIPELINE`] queries waiting has its next one read when the first of them is answered.
//! - Every queue, map, retry and connection count has a named [`limit`] and a counter for reaching it.
//! - Logic takes `now` ([`clock::Now`]); the event loop reads the clock, once a batch.
//! - A bad packet is a count, never a log line. Lines about queries, where a zone wants them, are written by a thread of
//!   their own, behind a queue that no worker waits for.
//! - `unsafe` stands in `listen::batch` alone; beside the road, in `node::link::tun` for one ioctl, in
//!   `serve::holder` for a table of descriptors, and in `lab::place` for namespaces.
//!
//! # Who may look at whom
//!
//! ```text
//! cache > wire        upstream > wire        local > upstream, wire        listen > cache, resolve, wire
//! resolve > cache, local, upstream, wire
//! node > netlink      config, telemetry > any stage, node      doctor > config, node, netlink
//! lab > node, netlink (it runs this program as a process)      serve > all        cli > all
//! corefile > nothing: text to a tree of words with their places, for config to make settings of
//! ```
//!
//! The road never looks at the wings, and [`node`] at nothing on the road: a mark on a socket is all they share. A
//! stage owns its settings and its counters; [`config`] builds the settings from a file and flags, [`telemetry`] reads
//! the counters. [`clock`], [`count`] and [`limit`] are the three words that every stage speaks; [`regular`] reads files.

pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod corefile;
pub mod count;
pub mod doctor;
pub mod lab;
pub mod limit;
pub mod listen;
pub mod local;
pub mod netlink;
pub mod node;
pub mod regular;
pub mod resolve;
pub mod serve;
pub mod telemetry;
pub mod upstream;
pub mod wire;
