//! Short locks: they spare work that is done twice. The time of one may be over while its holder
//! works, and nobody knows who has it while Redis is away, so nothing that must be right may depend
//! on one.

use std::pin::pin;
use std::time::Duration;

use super::Cache;

/// How a lock stands for who asked for it.
#[derive(Debug)]
pub enum Lock {
    /// It is theirs.
    Held(LockGuard),
    /// Another has it.
    Taken,
    /// That cannot be known now.
    Unknown,
}

impl Cache {
    /// Tries to get a lock, for so long.
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

    /// Does something unless another is at it: `None` then. It is done where that cannot be known.
    /// Who is gone without a word is at it for `lasts` still.
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
                // One that is lost meanwhile is no reason to stop half way.
                () = tokio::time::sleep(lasts / 3) => drop(held.prolong(lasts).await),
            }
        };
        held.release().await;
        Some(done)
    }
}

/// A lock that is held until it is released or its time is over.
#[derive(Debug)]
pub struct LockGuard {
    cache: Cache,
    name: String,
    token: String,
}

impl LockGuard {
    /// Holds it for so long from now on; `false` if it is not held any more, or if that cannot be
    /// known.
    pub async fn prolong(&self, lasts: Duration) -> bool {
        match &self.cache.inner.remote {
            None => self.cache.inner.local.prolong(&self.name, &self.token, lasts),
            Some(remote) => remote.prolong(&self.name, &self.token, lasts).await,
        }
    }

    /// Lets others have it. One that cannot be released ends with its time.
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
    async fn a_lock_is_held_for_as_long_as_the_work_takes_and_no_longer() {
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
        // Who is gone without a word is at it for a while still.
        let gone = cache.unless_taken("w", LASTS, std::future::pending::<()>());
        assert!(tokio::time::timeout(LASTS, gone).await.is_err());
        assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, None);
        tokio::time::sleep(LASTS).await;
        assert_eq!(cache.unless_taken("w", LASTS, async { 1 }).await, Some(1));
    }
}
