//! The registers by which a guest ends: ACPI's sleep control and sleep status, and the reset register.

use std::fmt;

use super::layout::{RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_ENABLE, SLEEP_STATUS, SLEEP_TYPE_OFF};
use crate::board::Wish;
use crate::bus::Registers;

/// All three of them, from [`SLEEP_CONTROL`] on.
pub(crate) struct Power(Box<dyn Fn(Wish) + Send + Sync>);

impl Power {
    pub(crate) fn new(wish: impl Fn(Wish) + Send + Sync + 'static) -> Self {
        Self(Box::new(wish))
    }
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Power")
    }
}

const SLEEP_TYPE_SHIFT: u32 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

impl Registers for Power {
    /// Nothing ever wakes the machine: the status reads zero.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(offset), [value]) = (u16::try_from(offset), data) else { return };
        match SLEEP_CONTROL.saturating_add(offset) {
            SLEEP_CONTROL if value & SLEEP_ENABLE != 0 => {
                let kind = value.wrapping_shr(SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
                if kind == SLEEP_TYPE_OFF {
                    (self.0)(Wish::PowerOff);
                }
            }
            RESET if *value == RESET_VALUE => (self.0)(Wish::Reset),
            SLEEP_STATUS.. | ..SLEEP_CONTROL | SLEEP_CONTROL => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn only_the_agreed_values_end_a_machine() {
        let (wishes, wished) = channel();
        let power = Power::new(move |wish| wishes.send(wish).unwrap());
        for (offset, data) in
            [(0, &[0x14][..]), (0, &[0x20]), (0, &[0x34, 0]), (1, &[0x34]), (2, &[2]), (9, &[1])]
        {
            power.write(offset, data);
        }
        assert!(wished.try_recv().is_err());
        power.write(0, &[SLEEP_TYPE_OFF << 2 | SLEEP_ENABLE]);
        assert_eq!(wished.try_recv(), Ok(Wish::PowerOff));
        power.write(u64::from(RESET - SLEEP_CONTROL), &[RESET_VALUE]);
        assert_eq!(wished.try_recv(), Ok(Wish::Reset));
    }
}
