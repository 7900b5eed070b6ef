//! Background jobs: work outside of requests that one node does for all. This module defines a job,
//! its retry delays, and the times of a schedule.
//!
//! A job is not a noun. It is in `domain` because `store::job` (the rows) and `bus::queue` (the
//! workers) use the same rules, but may not depend on each other.

use std::cmp::Ordering;

use croner::parser::{CronParser, Year};
use croner::{CivilDateTime, Cron, CronDateTime, Resolution, Weekday, errors::CronError};
use time::{Duration, OffsetDateTime};

use super::time::{Span, Timestamp};

/// The delay after the first failed attempt; it doubles with each further failure, up to
/// [`PAUSE_MAX`].
const PAUSE: Span = Span::from_secs(1);
const PAUSE_MAX: Span = Span::from_secs(300);
/// The longest cron pattern, in characters.
const CRON_CHARS_MAX: usize = 100;

/// The fields of a cron pattern, with their values.
const CRON_FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7, or SUN to SAT"),
];

/// The state of a job.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// It is to be done at [`Job::due_at`] or later.
    Waiting,
    /// A node works on it, with a lease until [`Job::due_at`]; after that, the node counts as dead.
    Running,
    /// It is done.
    Done,
    /// It has failed too often: an operator retries it, or discards it.
    Dead,
}

impl JobState {
    /// The state as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The kinds of jobs of the shop.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum JobKind {
    /// Writes orders to a CSV file.
    ExportOrders,
    /// Rebuilds all rows of orders and stock.
    ReplayRows,
    /// Retries parked webhooks that are due.
    RetryWebhooks,
    /// Compares the providers' lists of payments with the journal.
    SweepPayments,
    /// Checks the invariants of the store.
    Verify,
}

impl JobKind {
    /// The kind as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id; ids grow with time.
    pub id: String,
    /// The kind of work.
    pub kind: String,
    /// The arguments, as JSON.
    pub payload: String,
    /// Its state.
    pub state: JobState,
    /// The number of attempts.
    pub attempts: i64,
    /// The maximum number of attempts.
    pub attempts_max: i64,
    /// Its deduplication key: there is at most one job with a key, for example one job per time of
    /// a schedule.
    pub key: Option<String>,
    /// Who enqueued it.
    pub asked_by: String,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it is due or, while it runs, when its lease ends.
    pub due_at: Timestamp,
    /// The start of the last attempt.
    pub started_at: Option<Timestamp>,
    /// When it was done, or became dead.
    pub ended_at: Option<Timestamp>,
    /// The node of the last attempt.
    pub node: Option<String>,
    /// Its progress, or its result, as JSON.
    pub progress: Option<String>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
}

impl Job {
    /// Creates a job that is due at once.
    #[must_use]
    pub fn new(id: String, kind: &str, payload: String, asked_by: String, now: Timestamp) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            payload,
            state: JobState::Waiting,
            attempts: 0,
            attempts_max: 5,
            key: None,
            asked_by,
            created_at: now,
            due_at: now,
            started_at: None,
            ended_at: None,
            node: None,
            progress: None,
            last_error: None,
        }
    }

    /// Whether a node may start it: it is waiting and due, or its lease has ended.
    #[must_use]
    pub fn can_begin(&self, now: Timestamp) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Running) && self.due_at <= now
    }

    /// Starts an attempt with a lease. If no attempt is left, the job becomes dead, and the answer
    /// is `false`.
    pub fn begin(&mut self, node: &str, now: Timestamp, lease: Span) -> bool {
        if self.attempts >= self.attempts_max {
            let error = self.last_error.take();
            let why = "its node died each time, or took too long";
            self.give_up(&error.unwrap_or_else(|| why.to_owned()), now);
            return false;
        }
        self.state = JobState::Running;
        self.attempts += 1;
        self.node = Some(node.to_owned());
        (self.started_at, self.ended_at) = (Some(now), None);
        self.due_at = now + lease;
        true
    }

    /// Ends the job with its result.
    pub fn finish(&mut self, result: String, now: Timestamp) {
        self.state = JobState::Done;
        self.progress = Some(result);
        (self.ended_at, self.last_error) = (Some(now), None);
    }

    /// Ends a failed attempt: the job waits for its next attempt, or becomes dead if none is left.
    pub fn fail(&mut self, error: &str, now: Timestamp) {
        if self.attempts >= self.attempts_max {
            return self.give_up(error, now);
        }
        self.state = JobState::Waiting;
        self.due_at = now + retry_delay(self.attempts);
        self.last_error = Some(error.to_owned());
    }

    /// Makes the job dead, whatever attempts are left.
    pub fn give_up(&mut self, error: &str, now: Timestamp) {
        self.state = JobState::Dead;
        self.ended_at = Some(now);
        self.last_error = Some(error.to_owned());
    }

    /// Gives a job that is not running all its attempts again, for an operator; `false` if it runs
    /// or is done.
    pub fn retry(&mut self, now: Timestamp) -> bool {
        if !matches!(self.state, JobState::Dead | JobState::Waiting) {
            return false;
        }
        self.state = JobState::Waiting;
        (self.attempts, self.due_at, self.ended_at) = (0, now, None);
        true
    }
}

/// The delay before the next attempt, after this number of attempts.
#[must_use]
pub fn retry_delay(attempts: i64) -> Span {
    let doubled = attempts.saturating_sub(1).clamp(0, 20);
    Span::from_millis((PAUSE.millis() << doubled).min(PAUSE_MAX.millis()))
}

/// A schedule: a job that is enqueued periodically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// The arguments of its jobs, as JSON.
    pub payload: String,
    /// Its times: a cron pattern in UTC, with five fields, or six with seconds.
    pub cron: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// When its next job is due.
    pub next_at: Timestamp,
    /// When its last job was due.
    pub last_at: Option<Timestamp>,
}

/// Returns the first time of a cron pattern after `now`, in UTC.
///
/// # Errors
/// What is wrong with the pattern, or that it has no next time.
pub fn next_after(cron: &str, now: Timestamp) -> Result<Timestamp, String> {
    if cron.chars().count() > CRON_CHARS_MAX {
        return Err(format!("it has more than {CRON_CHARS_MAX} characters"));
    }
    let cron = parse_cron(cron).map_err(|error| cron_fault(cron).unwrap_or(error))?;
    let nanos = i128::from(now.millis()) * 1_000_000;
    let start = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|e| e.to_string())?;
    let next = cron.find_next_occurrence(&Utc(start), false);
    let next = next.map_err(|_| "there is no such time".to_owned())?;
    let millis = i64::try_from(next.0.unix_timestamp_nanos() / 1_000_000);
    Ok(Timestamp::from_millis(millis.map_err(|error| error.to_string())?))
}

fn parse_cron(cron: &str) -> Result<Cron, String> {
    CronParser::builder()
        .year(Year::Disallowed)
        .build()
        .parse(cron)
        .map_err(|error| error.to_string())
}

/// Which part of a cron pattern is wrong, and what it may be: the first that is not valid among
/// fields that allow everything.
fn cron_fault(cron: &str) -> Option<String> {
    let parts: Vec<&str> = cron.split_whitespace().collect();
    let skipped = match parts.len() {
        5 => 1,
        6 => 0,
        count => {
            return Some(format!("it has {count} fields instead of five, or six with seconds"));
        }
    };
    parts.iter().zip(&CRON_FIELDS[skipped..]).enumerate().find_map(|(at, (part, (name, range)))| {
        let mut alone = vec!["*"; parts.len()];
        alone[at] = part;
        let wrong = parse_cron(&alone.join(" ")).is_err();
        wrong.then(|| format!("the {name} must be from {range}, not {part:?}"))
    })
}

/// A time in UTC, as the cron library needs it.
#[derive(Clone, Copy)]
struct Utc(OffsetDateTime);

impl CronDateTime for Utc {
    fn to_civil(&self) -> CivilDateTime {
        let (year, month, day) = self.0.to_calendar_date();
        let (hour, minute, second) = self.0.to_hms();
        let civil = CivilDateTime::from_ymd_hms_opt(
            year,
            u32::from(u8::from(month)),
            u32::from(day),
            u32::from(hour),
            u32::from(minute),
            u32::from(second),
        );
        // The fallback is never used: dates that are valid in `time` are valid in `croner`.
        civil.unwrap_or(CivilDateTime::new(
            croner::CivilDate::from_parts_unchecked(1970, 1, 1),
            croner::CivilTime::MIDNIGHT,
        ))
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(u32::from(self.0.weekday().number_days_from_sunday()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let month = time::Month::try_from(small(civil.month()));
        let month = month.map_err(|_| CronError::InvalidDate)?;
        let date = time::Date::from_calendar_date(civil.year(), month, small(civil.date().day()));
        let at = civil.time();
        let (hour, minute, second) = (small(at.hour()), small(at.minute()), small(at.second()));
        let time = time::Time::from_hms(hour, minute, second);
        match (date, time) {
            (Ok(date), Ok(time)) => {
                Ok(Resolution::Single(Self(time::PrimitiveDateTime::new(date, time).assume_utc())))
            }
            _ => Err(CronError::InvalidDate),
        }
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(Duration::seconds(seconds)).map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn cron_pattern_is_in_utc_and_validated() {
        for (cron, now, next) in [
            ("*/3 * * * *", "2026-11-26T12:01:30Z", "2026-11-26T12:03:00Z"),
            ("0 3 * * *", "2026-11-26T03:00:00Z", "2026-11-27T03:00:00Z"),
            ("0 0 29 2 *", "2026-11-26T12:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 4 * * SUN", "2026-11-26T12:00:00Z", "2026-11-29T04:30:00Z"),
            ("*/10 * * * * *", "2026-11-26T12:00:01Z", "2026-11-26T12:00:10Z"),
        ] {
            assert_eq!(next_after(cron, at(now)), Ok(at(next)), "{cron}");
        }
        for (bad, why) in [
            ("", "it has 0 fields instead of five, or six with seconds"),
            ("* * * *", "it has 4 fields instead of five, or six with seconds"),
            ("0 0 0 1 1 * 2030", "it has 7 fields instead of five, or six with seconds"),
            ("61 * * * *", "the minute must be from 0 to 59, not \"61\""),
            ("*/5 3-25 * * *", "the hour must be from 0 to 23, not \"3-25\""),
            ("60 * * * * *", "the second must be from 0 to 59, not \"60\""),
            ("0 0 0 * *", "the day of the month must be from 1 to 31, not \"0\""),
            ("0 0 * MAI *", "the month must be from 1 to 12, or JAN to DEC, not \"MAI\""),
            ("0 0 * * 8", "the day of the week must be from 0 to 7, or SUN to SAT, not \"8\""),
            ("0 0 30 2 *", "there is no such time"),
            (&"* ".repeat(60), "it has more than 100 characters"),
        ] {
            let found = next_after(bad, at("2026-11-26T12:00:00Z"));
            assert_eq!(found, Err(why.to_owned()), "{bad}");
        }
    }

    #[test]
    fn job_retry_delay_doubles_until_it_is_dead() {
        let mut now = Timestamp::from_millis(0);
        let mut job = Job::new("1".into(), "k", "{}".into(), "t".into(), now);
        let mut pauses = Vec::new();
        while job.state != JobState::Dead {
            assert!(job.can_begin(now));
            assert!(job.begin("a", now, Span::from_secs(30)));
            assert!(!job.can_begin(now));
            job.fail("no", now);
            pauses.push(job.due_at.millis() - now.millis());
            now = job.due_at;
        }
        assert_eq!((job.attempts, pauses.len()), (5, 5));
        assert_eq!(pauses[3], 8_000);
        assert!(!job.can_begin(now));
        assert!(job.retry(now) && job.can_begin(now));
        assert_eq!(retry_delay(1_000), PAUSE_MAX);
    }

    #[test]
    fn job_of_dead_nodes_is_retried_until_it_is_dead() {
        let (mut now, lease) = (Timestamp::from_millis(0), Span::from_secs(30));
        let mut job = Job::new("1".into(), "k", "{}".into(), "t".into(), now);
        for _ in 0..5 {
            assert!(job.begin("a", now, lease));
            now = now + lease;
        }
        assert!(!job.begin("a", now, lease));
        assert_eq!(job.state, JobState::Dead);
        assert!(job.last_error.unwrap().contains("died"));
    }
}
