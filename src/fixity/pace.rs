//! How fast objects are read: an average that is kept by pausing between them.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes a second at most, on average. A large object is read at one go, and the pause after it is as long as it takes.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When what was read so far would have been read at that speed.
    even_at: Instant,
}

impl Pace {
    /// 0: no limit.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, even_at: Instant::now() }
    }

    /// Takes note of bytes that were read since `begun`; until when to wait before the next.
    pub fn spent(&mut self, bytes: u64, begun: Instant) -> Instant {
        if self.bytes_per_second > 0 {
            let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            // Time in which nothing was read is not saved up.
            self.even_at = self.even_at.max(begun) + takes;
        }
        self.even_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_average_is_kept_however_fast_the_reading_is() {
        let (start, mut pace) = (Instant::now(), Pace::new(1_000_000));
        for _ in 0..100 {
            let begun = Instant::now();
            // Some are read faster than that, some slower.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1000))).await;
            tokio::time::sleep_until(pace.spent(500_000, begun)).await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(50), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_work_is_not_saved_up() {
        let mut pace = Pace::new(1000);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        tokio::time::sleep_until(pace.spent(5000, begun)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let mut pace = Pace::new(0);
        let begun = Instant::now();
        tokio::time::sleep_until(pace.spent(u64::MAX, begun)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
