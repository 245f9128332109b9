//! Running the built binary, talking raw HTTP to it, and a server that follows a script.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn serin(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serin"));
    command.args(args).env_remove("PORT").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Polls until the condition gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct SampleApp {
    pub(crate) process: Running,
    pub(crate) port: u16,
}

impl SampleApp {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = serin(&["--output", "json", "sample-app"]);
        // The option wins over the variable, so that a test may choose a port.
        let mut child = command.args(args).env("PORT", "0").stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}'"));
        assert_eq!(listening["pid"], child.id());
        let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
        Self { process: Running { child }, port }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"").unwrap()
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = self.connect();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n")?;
        stream.write_all(body)?;
        read_answer(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub(crate) fn set(&self, patch: &str) -> Answer {
        self.request("PATCH", "/admin/behaviour", "", patch.as_bytes()).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads until the server closes. Something that is not HTTP is an error of kind `InvalidData`.
pub(crate) fn read_answer(mut stream: TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, format!("{bytes:?}"));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(not_http)?;
    let head = String::from_utf8(bytes[..end].to_vec()).map_err(|_| not_http())?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(not_http)?;
    Ok(Answer { status, head: head.to_lowercase(), body: bytes[end + 4..].to_vec() })
}

/// Runs `serin load` to its end and gives its exit code and report.
pub(crate) fn load(url: &str, args: &[&str]) -> (Option<i32>, Value) {
    let output = run(serin(&["--output", "json", "load", url]).args(args));
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?} {}", output.stdout, String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

/// Runs a command to its end, with a deadline.
pub(crate) fn run(command: &mut Command) -> Output {
    let mut running = Running { child: command.spawn().unwrap() };
    let (mut stdout, mut stderr) = (running.child.stdout.take().unwrap(), running.child.stderr.take().unwrap());
    let status = running.exit();
    let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
    stdout.read_to_end(&mut output.stdout).unwrap();
    stderr.read_to_end(&mut output.stderr).unwrap();
    output
}

/// What the scripted server does with one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Sends these bytes and goes on with the connection.
    Answer(&'static [u8]),
    /// Sends these bytes and closes; with none it closes without an answer.
    AnswerAndClose(&'static [u8]),
    /// Resets the connection: closing with unread data makes the system do that.
    Reset,
    /// Keeps silent until the client goes away.
    Stall,
}

/// A server that decides what to do by the number of the request (over all connections) and by its number within its connection.
/// Its threads end with their connections, and with the process.
pub(crate) fn scripted(script: impl Fn(usize, usize) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (script, counter) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (script, counter, stream) = (Arc::clone(&script), Arc::clone(&counter), stream.unwrap());
            thread::spawn(move || follow(stream, &*script, &counter));
        }
    });
    address
}

fn follow(mut stream: TcpStream, script: &dyn Fn(usize, usize) -> Act, counter: &AtomicUsize) -> Option<()> {
    for within in 0.. {
        let length = head_length(&stream)?;
        let act = script(counter.fetch_add(1, Ordering::SeqCst), within);
        if matches!(act, Act::Reset) {
            return None;
        }
        stream.read_exact(&mut vec![0; length]).ok()?;
        match act {
            Act::Answer(bytes) => stream.write_all(bytes).ok()?,
            Act::AnswerAndClose(bytes) => return stream.write_all(bytes).ok(),
            Act::Stall | Act::Reset => {
                let _ = stream.read(&mut [0; 1]);
                return None;
            }
        }
    }
    None
}

/// Waits for a whole request head without taking it from the socket.
fn head_length(stream: &TcpStream) -> Option<usize> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.peek(&mut buffer).ok().filter(|length| *length > 0)?;
        if let Some(end) = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(end + 4);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
