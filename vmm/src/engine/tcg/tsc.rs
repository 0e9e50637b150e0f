//! The rates of a processor's clocks. The guest's time stamp counter under TCG is the host's, and `microvm` has nothing to calibrate
//! it against but the PIT, which a loaded host makes fail. So the host's rate is measured here and told to the kernel; and that of
//! the APIC's timer, which it would measure against the counter, as wrong as its processor is put aside meanwhile.

use std::time::{Duration, Instant};

/// Long enough that a clock's granularity and the calls around it make up less than 0.1 %.
const MEASURED: Duration = Duration::from_millis(5);

/// QEMU's APIC counts nanoseconds. Only kernels with our patch `apic-timer-rate` know the word; to others it says nothing.
const APIC_TIMER: &str = "lapic_timer_khz=1000000";

/// The arguments that spare a kernel under TCG the calibration, empty where the processor has no such counter.
pub fn kernel_arguments() -> String {
    match crate::platform::timestamp_counter().is_some().then(measure).flatten() {
        Some(khz) => format!("tsc_early_khz={khz} tsc=reliable {APIC_TIMER}"),
        None => String::new(),
    }
}

/// Readings of which the best is taken: a thread that is put aside between counter and clock reads both wrong.
const READINGS: u32 = 8;

fn measure() -> Option<u64> {
    let (first, started) = reading()?;
    while started.elapsed() < MEASURED {
        std::hint::spin_loop();
    }
    let (last, ended) = reading()?;
    rate_khz(first, last, ended.saturating_duration_since(started))
}

/// Counter and clock at the same moment: of several pairs the one that took the fewest ticks.
fn reading() -> Option<(u64, Instant)> {
    let readings = (0..READINGS).filter_map(|_| {
        let before = crate::platform::timestamp_counter()?;
        let now = Instant::now();
        let took = crate::platform::timestamp_counter()?.saturating_sub(before);
        Some((took, before.saturating_add(took / 2), now))
    });
    readings.min_by_key(|(took, ..)| *took).map(|(_, counter, now)| (counter, now))
}

/// Ticks between two readings as kHz; `None` when the readings make no sense.
fn rate_khz(first: u64, last: u64, elapsed: Duration) -> Option<u64> {
    let ticks = u128::from(last.checked_sub(first)?);
    let khz = ticks.checked_mul(1_000_000)?.checked_div(elapsed.as_nanos())?;
    u64::try_from(khz).ok().filter(|khz| (100_000..=20_000_000).contains(khz))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_ticks_per_millisecond() {
        assert_eq!(rate_khz(1_000, 12_501_000, Duration::from_millis(5)), Some(2_500_000));
    }

    #[test]
    fn readings_that_make_no_sense_give_no_rate() {
        assert_eq!(rate_khz(2, 1, Duration::from_millis(5)), None, "the counter went backwards");
        assert_eq!(rate_khz(1, 2, Duration::ZERO), None, "no time passed");
        assert_eq!(rate_khz(1, 2, Duration::from_millis(5)), None, "slower than any processor");
    }
}
