//! Background jobs: work that is done once, by any node, beside requests: what one is, how long
//! it rests after a failure, and when a schedule is due.
//!
//! It is no noun of a shop. It stands on this floor because two rooms of the next one, which may
//! not know each other, decide by the same rules: `store::job` keeps the rows, `bus::queue` works
//! them. Who works them, and where they are kept, is not known here.

use std::cmp::Ordering;

use croner::parser::CronParser;
use croner::{CivilDateTime, Cron, CronDateTime, Resolution, Weekday, errors::CronError};
use time::{Duration, OffsetDateTime};

use super::time::{Span, Timestamp};

/// The pause after the first failure; each next one is twice as long.
const PAUSE: Span = Span::from_secs(1);
const PAUSE_MAX: Span = Span::from_secs(300);
/// The longest cron pattern.
const CRON_CHARS_MAX: usize = 100;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// It is to be done, at [`Job::due_at`] or after.
    Waiting,
    /// A node works on it, until [`Job::due_at`]; after that, the node is taken for dead.
    Running,
    /// It is done.
    Done,
    /// It was given up: an operator tries it again, or discards it.
    Dead,
}

impl JobState {
    /// The state as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id, which grows with time.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// With what: JSON.
    pub payload: String,
    /// How it stands.
    pub state: JobState,
    /// How often it was begun.
    pub attempts: i64,
    /// How often it is begun at most.
    pub attempts_max: i64,
    /// Of all jobs with one key there is one: what makes a schedule's job the only one of its time.
    pub key: Option<String>,
    /// Who asked for it.
    pub asked_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it is due, or, of one that runs, when its node is taken for dead.
    pub due_at: Timestamp,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When it was done or given up.
    pub ended_at: Option<Timestamp>,
    /// The node that last began it.
    pub node: Option<String>,
    /// How far it has come, or what came of it: JSON.
    pub progress: Option<String>,
    /// Why it failed last.
    pub last_error: Option<String>,
}

impl Job {
    /// A job that is due at once.
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

    /// Whether a node may begin with it: it waits and is due, or whoever ran it is taken for dead.
    #[must_use]
    pub fn can_begin(&self, now: Timestamp) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Running) && self.due_at <= now
    }

    /// A node begins, for as long as a lease; `false` if it was begun too often, which ends it.
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

    /// It is done, with what came of it.
    pub fn finish(&mut self, result: String, now: Timestamp) {
        self.state = JobState::Done;
        self.progress = Some(result);
        (self.ended_at, self.last_error) = (Some(now), None);
    }

    /// An attempt failed: it rests, or is given up.
    pub fn fail(&mut self, error: &str, now: Timestamp) {
        if self.attempts >= self.attempts_max {
            return self.give_up(error, now);
        }
        self.state = JobState::Waiting;
        self.due_at = now + pause(self.attempts);
        self.last_error = Some(error.to_owned());
    }

    /// It is given up.
    pub fn give_up(&mut self, error: &str, now: Timestamp) {
        self.state = JobState::Dead;
        self.ended_at = Some(now);
        self.last_error = Some(error.to_owned());
    }

    /// An operator lets one that is not running try again, as often as at first; `false` if it
    /// runs or is done.
    pub fn retry(&mut self, now: Timestamp) -> bool {
        if !matches!(self.state, JobState::Dead | JobState::Waiting) {
            return false;
        }
        self.state = JobState::Waiting;
        (self.attempts, self.due_at, self.ended_at) = (0, now, None);
        true
    }
}

/// How long a job rests after so many attempts.
#[must_use]
pub fn pause(attempts: i64) -> Span {
    let doubled = attempts.saturating_sub(1).clamp(0, 20);
    Span::from_millis((PAUSE.millis() << doubled).min(PAUSE_MAX.millis()))
}

/// What is to be done again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// What its jobs are done with: JSON.
    pub payload: String,
    /// When: a cron pattern, in UTC, of five fields or, with seconds, six.
    pub cron: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// When the next job is due.
    pub next_at: Timestamp,
    /// When the last one was due.
    pub last_at: Option<Timestamp>,
}

/// When a cron pattern is next due after a moment, in UTC.
///
/// # Errors
/// What is wrong with it, or that it is never due.
pub fn next_after(cron: &str, now: Timestamp) -> Result<Timestamp, String> {
    if cron.chars().count() > CRON_CHARS_MAX {
        return Err(format!("it has more than {CRON_CHARS_MAX} characters"));
    }
    let cron: Cron = CronParser::new().parse(cron).map_err(|error| error.to_string())?;
    let nanos = i128::from(now.millis()) * 1_000_000;
    let start = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|e| e.to_string())?;
    let next = cron.find_next_occurrence(&Utc(start), false).map_err(|error| error.to_string())?;
    let millis = i64::try_from(next.0.unix_timestamp_nanos() / 1_000_000);
    Ok(Timestamp::from_millis(millis.map_err(|error| error.to_string())?))
}

/// A moment in UTC, as cron patterns read it.
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
        // What the calendar of one library has, that of the other has, too.
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
    fn a_pattern_is_due_in_utc_and_a_wrong_one_is_told() {
        for (cron, now, next) in [
            ("*/3 * * * *", "2026-11-26T12:01:30Z", "2026-11-26T12:03:00Z"),
            ("0 3 * * *", "2026-11-26T03:00:00Z", "2026-11-27T03:00:00Z"),
            ("0 0 29 2 *", "2026-11-26T12:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 4 * * SUN", "2026-11-26T12:00:00Z", "2026-11-29T04:30:00Z"),
            ("*/10 * * * * *", "2026-11-26T12:00:01Z", "2026-11-26T12:00:10Z"),
        ] {
            assert_eq!(next_after(cron, at(now)), Ok(at(next)), "{cron}");
        }
        for bad in ["", "x", "61 * * * *", "0 0 30 2 *", &"* ".repeat(60)] {
            assert!(next_after(bad, at("2026-11-26T12:00:00Z")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_job_rests_longer_each_time_and_is_given_up_at_last() {
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
        assert_eq!(pause(1_000), PAUSE_MAX);
    }

    #[test]
    fn a_job_whose_nodes_die_is_begun_again_and_given_up_at_last() {
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
