//! How fast a connection is read: as fast as its own rates and those of its principals allow.
//!
//! Invariant: what is too fast waits in the socket and is taken in later; nothing is dropped, and nobody waits longer than
//! [`WAIT_MAX`] for one message. Absent: the buckets (`rates`), what ends a connection.

use crate::rates::{Limiter, Met, OwnBuckets};
use futures_util::future::{BoxFuture, FutureExt};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use tokio::time::sleep;

/// A client that hears nothing for longer gives its line up (`ANSWER_WITHIN`): it is told before.
const WAIT_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Pace {
    limiter: Arc<Limiter>,
    own: OwnBuckets,
}

impl Pace {
    pub(crate) fn new(limiter: Arc<Limiter>) -> Self {
        Self { own: limiter.own(), limiter }
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Takes a message of so many bytes from the buckets of the connection, or from those of a principal. What is
    /// returned resolves when they have filled far enough, or with an error if that would take too long.
    pub(crate) fn take<'a>(
        &'a self,
        principal: Option<&'a Arc<str>>,
        bytes: usize,
    ) -> Option<BoxFuture<'a, Result<(), Met>>> {
        let bytes = NonZeroU32::new(u32::try_from(bytes).unwrap_or(u32::MAX));
        let mut due = Due { principal, message: true, bytes };
        let met = self.pay(&mut due).err()?;
        // Boxed: few wait, and every connection has room for whatever it might come to.
        Some(self.wait(due, met).boxed())
    }

    async fn wait(&self, mut due: Due<'_>, mut met: Met) -> Result<(), Met> {
        self.limiter.met(met);
        let mut left = WAIT_MAX;
        loop {
            left = left.checked_sub(met.after).ok_or(met)?;
            sleep(met.after).await;
            match self.pay(&mut due) {
                Ok(()) => return Ok(()),
                Err(again) => met = again,
            }
        }
    }

    fn pay(&self, due: &mut Due<'_>) -> Result<(), Met> {
        if due.message {
            match due.principal {
                Some(principal) => self.limiter.messages_of(principal, NonZeroU32::MIN)?,
                None => self.own.message()?,
            }
            due.message = false;
        }
        if let Some(bytes) = due.bytes {
            match due.principal {
                Some(principal) => self.limiter.bytes_of(principal, bytes)?,
                None => self.own.bytes(bytes)?,
            }
            due.bytes = None;
        }
        Ok(())
    }
}

/// What is still to be taken for a message.
struct Due<'a> {
    /// From whose buckets; `None`: the connection's.
    principal: Option<&'a Arc<str>>,
    message: bool,
    bytes: Option<NonZeroU32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, config::Rates, rates::Limit};

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[tokio::test]
    async fn x17_who_is_too_fast_waits_and_who_would_wait_too_long_is_told() {
        let rates = Rates {
            connection_messages: number(20),
            principal_messages: number(1),
            ..Rates::default()
        };
        let pace = Pace::new(Arc::new(Limiter::new(rates, Arc::default())));
        let began = clock::instant();
        for _ in 0..40 {
            assert!(pace.take(None, 1).is_none(), "so many are there at once");
        }
        pace.take(None, 1).expect("one more waits").await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(40));
        let principal = Arc::from("ada");
        let other = Pace::new(Arc::clone(&pace.limiter));
        assert!(pace.take(Some(&principal), 1).is_none());
        assert!(other.take(Some(&principal), 1).is_none());
        // Four who wait for one bucket: the last of them would wait for longer than anybody does.
        let waits = (0..5).filter_map(|_| pace.take(Some(&principal), 1));
        let ended = futures_util::future::join_all(waits).await;
        let met = ended.into_iter().find_map(Result::err).unwrap();
        assert_eq!(met.limit, Limit::PrincipalMessages);
    }
}
