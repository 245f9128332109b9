//! Asking again and again, in tasks of their own.
//!
//! What waits for a source waits for that source alone: how many questions are asked at once is counted for each, and for alerts apart from
//! metrics, so that no query that takes its time keeps an alert from being seen.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serin_core::traffic::{Gap, Measured};
use serin_spec::validated::AlertRule;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    MetricSource, Sources,
    looks::{Look, questions},
};

/// Questions about metrics to one source of a release at once, and as many about alerts.
const AT_ONCE: usize = 8;
/// News that wait for the release.
const WAITING: usize = 64;

/// What a source said.
#[derive(Debug)]
pub enum News {
    /// About a metric: one look.
    Measured(Vec<Measured>),
    /// An alert fires, said with every look.
    Fires {
        /// Its name.
        name: String,
        /// What it says, for people.
        text: String,
    },
    /// Whether alerts can be seen changed: the reason if they no longer can.
    AlertsSeen(Result<(), String>),
}

/// The tasks that ask. Dropping this ends them.
pub struct Polls {
    news: mpsc::Receiver<News>,
    tasks: Vec<JoinHandle<()>>,
}

impl Polls {
    /// Starts asking: at once, and then every interval. Without anything to ask, nothing runs.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(sources: &Sources) -> Self {
        let every = Duration::from_millis(sources.measures.interval_ms.max(1));
        let (sender, news) = mpsc::channel(WAITING);
        let asked: BTreeMap<&String, Asked> = sources.adapters.iter().map(|(name, source)| (name, Asked::new(source))).collect();
        let mut tasks = Vec::new();
        for question in questions(&sources.measures) {
            // Names of sources were checked with the document.
            let Some(asked) = asked.get(&question.source) else { continue };
            let look = Look::new(question, Arc::clone(&asked.source), every);
            tasks.push(tokio::spawn(measure(look, every, Arc::clone(&asked.metrics), sender.clone())));
        }
        for rule in &sources.measures.alerts {
            let Some(asked) = asked.get(&rule.source) else { continue };
            tasks.push(tokio::spawn(watch(rule.clone(), Arc::clone(&asked.source), every, Arc::clone(&asked.alerts), sender.clone())));
        }
        Self { news, tasks }
    }

    /// The next news; for ever none if nothing is asked. What is dropped before it is done has lost nothing.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A source, and who may ask it now.
struct Asked {
    source: Arc<dyn MetricSource>,
    metrics: Arc<Semaphore>,
    alerts: Arc<Semaphore>,
}

impl Asked {
    fn new(source: &Arc<dyn MetricSource>) -> Self {
        let permits = || Arc::new(Semaphore::new(AT_ONCE));
        Self { source: Arc::clone(source), metrics: permits(), alerts: permits() }
    }
}

async fn measure(mut look: Look, every: Duration, permits: Arc<Semaphore>, news: mpsc::Sender<News>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(permit) = permits.acquire().await else { return };
        let measured = look.take().await;
        drop(permit);
        if news.send(News::Measured(measured)).await.is_err() {
            return;
        }
    }
}

async fn watch(rule: AlertRule, source: Arc<dyn MetricSource>, every: Duration, permits: Arc<Semaphore>, news: mpsc::Sender<News>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Ok(());
    loop {
        ticks.tick().await;
        let Ok(permit) = permits.acquire().await else { return };
        let answer = source.firing(&rule.labels).await;
        drop(permit);
        let now = answer.as_ref().map(drop).map_err(|gap: &Gap| blind(&rule.labels, gap));
        if now.is_ok() != seen.is_ok() && news.send(News::AlertsSeen(now.clone())).await.is_err() {
            return;
        }
        seen = now;
        for alert in answer.into_iter().flatten() {
            let text = format!("the alert {} fires at {}: {}", alert.name, rule.source, alert.labels);
            if news.send(News::Fires { name: alert.name, text }).await.is_err() {
                return;
            }
        }
    }
}

fn blind(labels: &BTreeMap<String, String>, gap: &Gap) -> String {
    let name = labels.get("alertname").or_else(|| labels.values().next()).map(String::as_str).unwrap_or_default();
    format!("the alert {name} cannot be seen: {gap}")
}

#[cfg(test)]
mod tests;
