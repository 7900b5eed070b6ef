//! The word that a job is there, and that a node has taken it: over JetStream, as a work queue
//! whose messages go to one node each, or in process.
//!
//! A word that is lost is told again by whoever looks into the ledger; one that comes twice finds
//! that the job has been begun.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, IntoConsumerConfig as _, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;

use super::Findings;
use crate::bus::nats::Connection;
use crate::bus::options::Options;
use crate::domain::background_job::Job;

/// The stream of words.
pub const NAME: &str = "KONTOR_JOBS";
const SUBJECT: &str = "kontor.jobs";
/// The consumer that all nodes share.
const WORKERS: &str = "workers";
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a node may say nothing about a word that it has taken.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// How often a word is delivered. A server only stops after that, without a word of its own, so
/// it is never used up: a word is taken off the line when it comes, and the ledger counts.
const DELIVERIES: i64 = 20;
/// For how long a word is known by its id, and how long it is kept.
const DUPLICATES: Duration = Duration::from_secs(30);
const AGE: Duration = Duration::from_secs(3_600);
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(30);

/// The word that a job is there.
pub struct Word {
    /// The job's id.
    pub job: String,
    taken: Option<Message>,
}

impl Word {
    /// The node works on it: the word must not go to another one.
    pub async fn hold(&self) {
        self.say(AckKind::Progress).await;
    }

    /// The node has seen to it, whatever came of it.
    pub async fn over(self) {
        self.say(AckKind::Ack).await;
    }

    async fn say(&self, what: AckKind) {
        if let Some(message) = &self.taken
            && let Err(error) = message.ack_with(what).await
        {
            // It comes again, and finds its job begun.
            tracing::debug!(job = self.job, %error, "cannot acknowledge the notice of a job");
        }
    }
}

/// How the nodes of a queue tell each other that a job is due.
#[async_trait]
pub trait QueueConnection: Send + Sync + 'static {
    /// Tells that a job is due; whether it was taken. It may be lost still.
    async fn tell(&self, job: &Job) -> bool;

    /// The words that come to this node, until something breaks; an error says what.
    async fn words(&self) -> Result<BoxStream<'static, Word>, String>;

    /// Whether words may be counted on at all now: if not, nodes look for themselves.
    fn is_up(&self) -> bool;
}

/// The line in process. Every node hears every word; the first one begins.
#[derive(Clone)]
pub struct TwinLine(broadcast::Sender<String>);

impl Default for TwinLine {
    fn default() -> Self {
        Self(broadcast::Sender::new(1_024))
    }
}

#[async_trait]
impl QueueConnection for TwinLine {
    async fn tell(&self, job: &Job) -> bool {
        let _nobody = self.0.send(job.id.clone());
        true
    }

    async fn words(&self) -> Result<BoxStream<'static, Word>, String> {
        let words = stream::unfold(self.0.subscribe(), |mut words| async move {
            loop {
                match words.recv().await {
                    Ok(job) => return Some((Word { job, taken: None }, words)),
                    // What was missed is found in the ledger.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(words.boxed())
    }

    fn is_up(&self) -> bool {
        true
    }
}

/// The line over JetStream.
pub struct JetLine {
    nats: Connection,
    context: Context,
    config: Config,
    findings: Findings,
}

impl JetLine {
    /// The line, as options have it. Nothing is sent yet.
    #[must_use]
    pub fn new(nats: Connection, options: &Options, findings: Findings) -> Self {
        let context = ContextBuilder::new()
            .timeout(PATIENCE)
            .ack_timeout(PATIENCE)
            .build(nats.client().clone());
        let config = Config {
            name: NAME.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            max_age: AGE,
            max_bytes: 64 << 20,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            num_replicas: options.events_replicas,
            duplicate_window: DUPLICATES,
            ..Config::default()
        };
        Self { nats, context, config, findings }
    }
}

#[async_trait]
impl QueueConnection for JetLine {
    async fn tell(&self, job: &Job) -> bool {
        if !self.nats.is_up() {
            return false;
        }
        let mut headers = HeaderMap::new();
        // Several nodes tell of the same attempt; one word is enough.
        let id = format!("{}-{}-{}", job.id, job.attempts, job.due_at.millis());
        headers.insert("Nats-Msg-Id", id);
        let word = PublishMessage::build().payload(job.id.clone().into()).headers(headers);
        let told = match self.context.send_publish(SUBJECT, word).await {
            Ok(told) => told.await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = &told {
            tracing::debug!(job = job.id, %error, "cannot send the notice of a job");
        }
        told.is_ok()
    }

    async fn words(&self) -> Result<BoxStream<'static, Word>, String> {
        let made = self.context.get_or_create_stream(self.config.clone()).await;
        let stream = made.map_err(|error| error.to_string())?;
        let got = &stream.cached_info().config;
        self.findings.compare("stream KONTOR_JOBS", &self.config, got);
        let asked = pull::Config {
            durable_name: Some(WORKERS.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: DELIVERIES,
            max_ack_pending: 10_000,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(WORKERS, asked.clone()).await;
        let consumer = consumer.map_err(|error| error.to_string())?;
        let got = &consumer.cached_info().config;
        self.findings.compare("consumer of KONTOR_JOBS", &asked.into_consumer_config(), got);
        // Few are taken ahead: what one node holds, no other can begin.
        let messages = consumer.stream().max_messages_per_batch(1).heartbeat(HEARTBEAT);
        let messages = messages.expires(EXPIRES).messages().await;
        let messages = messages.map_err(|error| error.to_string())?;
        let words = messages.scan((), |(), message| {
            let word = match message {
                Ok(message) => {
                    let job = String::from_utf8_lossy(&message.payload).into_owned();
                    Some(Word { job, taken: Some(message) })
                }
                Err(error) => {
                    tracing::debug!(%error, "the stream of job notices was interrupted");
                    None
                }
            };
            std::future::ready(word)
        });
        Ok(words.boxed())
    }

    fn is_up(&self) -> bool {
        self.nats.is_up()
    }
}
