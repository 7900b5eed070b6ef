//! Short locks, which usually keep two nodes from doing the same work. A lock may expire while its
//! holder works, and its state is unknown while Redis is unreachable, so correctness must never
//! depend on a lock.

use std::pin::pin;
use std::time::Duration;

use super::Cache;

/// The outcome of taking a lock.
#[derive(Debug)]
pub enum Lock {
    /// The caller holds it.
    Held(LockGuard),
    /// Another caller holds it.
    Taken,
    /// Unknown: Redis does not answer.
    Unknown,
}

impl Cache {
    /// Tries to take a lock with a TTL.
    pub async fn lock(&self, name: &str, lasts: Duration) -> Lock {
        let token = format!("{:032x}", rand::random::<u128>());
        let held = match &self.inner.remote {
            None => Some(self.inner.local.lock(name, &token, lasts)),
            Some(remote) => remote.lock(name, &token, lasts).await,
        };
        match held {
            Some(true) => {
                Lock::Held(LockGuard { cache: self.clone(), name: name.to_owned(), token })
            }
            Some(false) => Lock::Taken,
            None => Lock::Unknown,
        }
    }

    /// Runs a future, unless another caller holds the lock: then the result is `None`. The future
    /// also runs if the state of the lock is unknown. The lock is extended while the future runs;
    /// if the holder dies, the lock lasts until its TTL ends.
    pub async fn unless_taken<T>(
        &self,
        name: &str,
        lasts: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let held = match self.lock(name, lasts).await {
            Lock::Held(held) => held,
            Lock::Taken => return None,
            Lock::Unknown => return Some(work.await),
        };
        let mut work = pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                // The work goes on even if the lock is lost meanwhile.
                () = tokio::time::sleep(lasts / 3) => drop(held.prolong(lasts).await),
            }
        };
        held.release().await;
        Some(done)
    }
}

/// A lock that is held until it is released or its TTL ends.
#[derive(Debug)]
pub struct LockGuard {
    cache: Cache,
    name: String,
    token: String,
}

impl LockGuard {
    /// Lets the lock's TTL begin anew; `false` if the lock is no longer held, or its state is
    /// unknown.
    pub async fn prolong(&self, lasts: Duration) -> bool {
        match &self.cache.inner.remote {
            None => self.cache.inner.local.prolong(&self.name, &self.token, lasts),
            Some(remote) => remote.prolong(&self.name, &self.token, lasts).await,
        }
    }

    /// Releases the lock. If that fails, the lock lasts until its TTL ends.
    pub async fn release(self) {
        match &self.cache.inner.remote {
            None => self.cache.inner.local.release(&self.name, &self.token),
            Some(remote) => remote.release(&self.name, &self.token).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lock_is_extended_while_the_work_runs() {
        const LASTS: Duration = Duration::from_secs(30);
        let cache = Cache::in_process();
        let work = tokio::spawn({
            let cache = cache.clone();
            async move { cache.unless_taken("w", LASTS, tokio::time::sleep(10 * LASTS)).await }
        });
        for _ in 0..9 {
            tokio::time::sleep(LASTS).await;
            assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, None);
        }
        assert_eq!(work.await.unwrap(), Some(()));
        assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, Some(1));
        // The lock of a dropped holder lasts until its TTL ends.
        let gone = cache.unless_taken("w", LASTS, std::future::pending::<()>());
        assert!(tokio::time::timeout(LASTS, gone).await.is_err());
        assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, None);
        tokio::time::sleep(LASTS).await;
        assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, Some(1));
    }
}
