//! The event stream from outside: where it begins, what it says when it cannot go on, how many there may be.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Instant,
};

use serin_web::{Limits, Role};

use crate::support::{Daemon, PATIENCE, Reply, request, token, wide};

struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(daemon: &Daemon, path: &str, last: Option<&str>) -> Self {
        let mut stream = daemon.connect();
        let request = String::from_utf8(request("GET", path, Some(&token(Role::Viewer)), None)).unwrap();
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        stream.write_all(request.replace("Host:", &format!("{last}Host:")).as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line that begins like this.
    fn next(&mut self, start: &str) -> String {
        let begun = Instant::now();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended before {start:?}");
            if let Some(rest) = line.trim_end().strip_prefix(start) {
                return rest.trim().to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "no {start:?}");
        }
    }
}

#[test]
fn a_stream_says_where_it_stands_and_goes_on_there() {
    let daemon = Daemon::start();
    let mut stream = Stream::open(&daemon, "/v1/events", None);
    assert_eq!(stream.next("HTTP/1.1 "), "200 OK");
    assert_eq!(stream.next("content-type:"), "text/event-stream");
    let here = stream.next("id:");
    let mut again = Stream::open(&daemon, "/v1/events?service=shop", Some(&here));
    // No reset: the sign of life comes next.
    assert_eq!(again.next(": alive"), "");
    assert_eq!(again.next("id:"), here);
}

#[test]
fn who_comes_with_an_unknown_id_is_told_to_read_anew() {
    let daemon = Daemon::start();
    let here = Stream::open(&daemon, "/v1/events", None).next("id:");
    let (process, _) = here.split_once('-').unwrap();
    for unknown in [format!("{process}-17"), format!("{process}-18446744073709551615"), "ffffffff-1".to_owned(), "nonsense".to_owned()] {
        let mut stream = Stream::open(&daemon, "/v1/events", Some(&unknown));
        assert_eq!(stream.next("id:"), here, "{unknown}");
        assert_eq!(stream.next("event:"), "reset", "{unknown}");
        assert_eq!(stream.next("data:"), "{}", "{unknown}");
    }
    let mut stream = Stream::open(&daemon, "/v1/events?after=ffffffff-1", None);
    assert_eq!(stream.next("event:"), "reset");
}

#[test]
fn a_quiet_stream_shows_that_it_lives() {
    let daemon = Daemon::with(Limits { heartbeat_ms: 50, ..wide() }, None);
    let mut stream = Stream::open(&daemon, "/v1/events", None);
    for _ in 0..3 {
        stream.next(": alive");
    }
}

#[test]
fn streams_are_bounded_and_places_come_back() {
    let daemon = Daemon::with(Limits { streams: 3, streams_per_identity: 2, heartbeat_ms: 50, ..wide() }, None);
    let open = || Stream::open(&daemon, "/v1/events", None);
    let mut held = [open(), open()];
    held.iter_mut().for_each(|stream| assert_eq!(stream.next("HTTP/1.1 "), "200 OK"));
    assert_eq!(open().next("HTTP/1.1 "), "429 Too Many Requests");
    drop(held);
    let begun = Instant::now();
    while open().next("HTTP/1.1 ") != "200 OK" {
        assert!(begun.elapsed() < PATIENCE, "the places come back");
    }
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    let daemon = Daemon::start();
    let ask = |query: &str| -> Reply { daemon.get(&format!("/v1/events?{query}"), Some(&token(Role::Viewer))) };
    for bad in ["service=UPPER", "servcie=shop", "service=a&service=b"] {
        assert_eq!(ask(bad).status, 422, "{bad}");
    }
}
