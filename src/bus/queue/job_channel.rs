//! Job notices: messages that a job is due. They go over JetStream, as a work queue that delivers
//! each notice to one node, or in process.
//!
//! If a notice is lost, a node that polls the ledger sends it again. If a notice arrives twice, the
//! second receiver finds the job already started, and does nothing.

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

use super::NatsProblems;
use crate::bus::nats::Connection;
use crate::bus::options::Options;
use crate::domain::background_job::Job;

/// The JetStream stream of job notices.
pub const NAME: &str = "KONTOR_JOBS";
const SUBJECT: &str = "kontor.jobs";
/// The durable consumer that all nodes share.
const WORKERS: &str = "workers";
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a node may keep a notice without reporting progress; after that, the notice is
/// delivered again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// The most deliveries of a notice; after that many, the server silently stops delivering it. A
/// node acknowledges a notice whatever the outcome of the job, because the ledger counts the
/// attempts, so only failures to read or write the ledger use up deliveries. A poll of the ledger
/// then sends a new notice.
const DELIVERIES: i64 = 20;
/// How long a notice is recognized as a duplicate by its id; `AGE` is how long it is stored.
const DUPLICATES: Duration = Duration::from_secs(30);
const AGE: Duration = Duration::from_secs(3_600);
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(30);

/// A notice that a job is due.
pub struct JobNotice {
    /// The job's id.
    pub job: String,
    message: Option<Message>,
}

impl JobNotice {
    /// Reports progress, so that the notice is not delivered again.
    pub async fn report_progress(&self) {
        self.say(AckKind::Progress).await;
    }

    /// Acknowledges the notice, whatever the outcome of the job.
    pub async fn acknowledge(self) {
        self.say(AckKind::Ack).await;
    }

    async fn say(&self, what: AckKind) {
        if let Some(message) = &self.message
            && let Err(error) = message.ack_with(what).await
        {
            // The notice will be delivered again, and its receiver will find the job already
            // started.
            tracing::debug!(job = self.job, %error, "cannot acknowledge the notice of a job");
        }
    }
}

/// Sends and receives job notices.
#[async_trait]
pub trait JobChannel: Send + Sync + 'static {
    /// Sends the notice of a due job; `true` if the notice was accepted. It may still be lost.
    async fn tell(&self, job: &Job) -> bool;

    /// The notices for this node, until an error.
    async fn notices(&self) -> Result<BoxStream<'static, JobNotice>, String>;

    /// Whether notices can be sent and received at the moment. If not, nodes find jobs by polling
    /// the ledger.
    fn is_up(&self) -> bool;
}

/// In-process job notices. Every node receives every notice; the first one starts the job.
#[derive(Clone)]
pub struct LocalJobNotices(broadcast::Sender<String>);

impl Default for LocalJobNotices {
    fn default() -> Self {
        Self(broadcast::Sender::new(1_024))
    }
}

#[async_trait]
impl JobChannel for LocalJobNotices {
    async fn tell(&self, job: &Job) -> bool {
        let _nobody = self.0.send(job.id.clone());
        true
    }

    async fn notices(&self) -> Result<BoxStream<'static, JobNotice>, String> {
        let notices = stream::unfold(self.0.subscribe(), |mut notices| async move {
            loop {
                match notices.recv().await {
                    Ok(job) => return Some((JobNotice { job, message: None }, notices)),
                    // The job of a missed notice is found by polling the ledger.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(notices.boxed())
    }

    fn is_up(&self) -> bool {
        true
    }
}

/// Job notices over JetStream.
pub struct JetStreamJobNotices {
    nats: Connection,
    context: Context,
    config: Config,
    nats_problems: NatsProblems,
}

impl JetStreamJobNotices {
    /// Job notices with these options. Nothing is sent yet.
    #[must_use]
    pub fn new(nats: Connection, options: &Options, nats_problems: NatsProblems) -> Self {
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
        Self { nats, context, config, nats_problems }
    }
}

#[async_trait]
impl JobChannel for JetStreamJobNotices {
    async fn tell(&self, job: &Job) -> bool {
        if !self.nats.is_up() {
            return false;
        }
        let mut headers = HeaderMap::new();
        // Several nodes may send a notice of the same attempt; NATS deduplicates them by this id.
        let id = format!("{}-{}-{}", job.id, job.attempts, job.due_at.millis());
        headers.insert("Nats-Msg-Id", id);
        let notice = PublishMessage::build().payload(job.id.clone().into()).headers(headers);
        let told = match self.context.send_publish(SUBJECT, notice).await {
            Ok(told) => told.await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = &told {
            tracing::debug!(job = job.id, %error, "cannot send the notice of a job");
        }
        told.is_ok()
    }

    async fn notices(&self) -> Result<BoxStream<'static, JobNotice>, String> {
        let made = self.context.get_or_create_stream(self.config.clone()).await;
        let stream = made.map_err(|error| error.to_string())?;
        let got = &stream.cached_info().config;
        self.nats_problems.compare("stream KONTOR_JOBS", &self.config, got);
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
        self.nats_problems.compare("consumer of KONTOR_JOBS", &asked.into_consumer_config(), got);
        // Prefetches only one notice at a time: a prefetched notice is not delivered to another
        // node, which might be free to work on it.
        let messages = consumer.stream().max_messages_per_batch(1).heartbeat(HEARTBEAT);
        let messages = messages.expires(EXPIRES).messages().await;
        let messages = messages.map_err(|error| error.to_string())?;
        let notices = messages.scan((), |(), message| {
            let notice = match message {
                Ok(message) => {
                    let job = String::from_utf8_lossy(&message.payload).into_owned();
                    Some(JobNotice { job, message: Some(message) })
                }
                Err(error) => {
                    tracing::debug!(%error, "the stream of job notices was interrupted");
                    None
                }
            };
            std::future::ready(notice)
        });
        Ok(notices.boxed())
    }

    fn is_up(&self) -> bool {
        self.nats.is_up()
    }
}
