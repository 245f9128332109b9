//! What happens on a server, as it happens. A connection that breaks is made again, and goes on where it was.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serin_engine::serve::ServerEvent;
use tokio::time::{sleep, timeout};

use super::{Client, ClientError};

/// The server gives a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
const AGAIN: Duration = Duration::from_secs(1);
/// Lines longer than this are no events.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A stream of events.
pub(crate) struct Events {
    client: Client,
    path: String,
    last: Option<String>,
    body: Option<Incoming>,
    buffer: Vec<u8>,
}

/// What comes.
pub(crate) enum Happened {
    /// An event.
    Event(Box<ServerEvent>),
    /// Some were missed: what is known has to be read anew.
    Missed,
    /// The connection broke and is being made again.
    Broken(String),
}

impl Events {
    /// The events of a service, or of all.
    ///
    /// # Errors
    /// If the server does not answer or says no.
    pub(crate) async fn open(client: Client, service: Option<&str>) -> Result<Self, ClientError> {
        let path = service.map_or_else(|| "/v1/events".to_owned(), |service| format!("/v1/events?service={service}"));
        let body = client.stream(&path, None).await?;
        Ok(Self { client, path, last: None, body: Some(body), buffer: Vec::new() })
    }

    /// The next event. Never ends by itself.
    pub(crate) async fn next(&mut self) -> Happened {
        loop {
            if let Some(block) = self.block() {
                if let Some(happened) = self.read(&block) {
                    return happened;
                }
                continue;
            }
            let Some(body) = &mut self.body else {
                match self.client.stream(&self.path, self.last.as_deref()).await {
                    Ok(body) => self.body = Some(body),
                    Err(_) => sleep(AGAIN).await,
                }
                continue;
            };
            let broken = match timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                    (self.buffer.len() > MOST_BYTES).then(|| "an event without end".to_owned())
                }
                Ok(Some(Err(error))) => Some(error.to_string()),
                Ok(None) => Some("the server closed it".to_owned()),
                Err(_) => Some("no sign of life".to_owned()),
            };
            if let Some(why) = broken {
                self.body = None;
                self.buffer.clear();
                sleep(AGAIN).await;
                return Happened::Broken(why);
            }
        }
    }

    /// The lines up to the next empty one.
    fn block(&mut self) -> Option<String> {
        let end = self.buffer.windows(2).position(|two| two == b"\n\n")?;
        let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&block).into_owned())
    }

    fn read(&mut self, block: &str) -> Option<Happened> {
        let (mut data, mut kind) = (String::new(), "");
        for line in block.lines() {
            if let Some(rest) = line.strip_prefix("data:") {
                data.push_str(rest.trim_start());
            } else if let Some(rest) = line.strip_prefix("event:") {
                kind = rest.trim();
            } else if let Some(rest) = line.strip_prefix("id:") {
                self.last = Some(rest.trim().to_owned());
            }
        }
        if kind == "reset" {
            return Some(Happened::Missed);
        }
        serde_json::from_str(&data).ok().map(|event| Happened::Event(Box::new(event)))
    }
}
