//! The registers by which a guest ends: ACPI's sleep control and sleep status, and the reset register; and the keyboard
//! controller's, by which a PC is reset that has no better way.

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

/// The command and status register of a keyboard controller (8042) that does nothing but reset the machine, for kernels that
/// are told to end so (`reboot=k`): where nothing answers Linux waits ten times for 65,536 reads.
pub(crate) struct KeyboardController(Box<dyn Fn() + Send + Sync>);

impl KeyboardController {
    pub(crate) fn new(reset: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(reset))
    }
}

impl fmt::Debug for KeyboardController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyboardController")
    }
}

/// Pulls the processor's reset line.
const PULSE_RESET: u8 = 0xfe;

impl Registers for KeyboardController {
    /// It has nothing to say, and takes the next command.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data == [PULSE_RESET] {
            (self.0)();
        }
    }
}

/// Code for where a PC's firmware starts after a reset, [`layout::RESET_VECTOR`](super::layout::RESET_VECTOR). A kernel that knows no better way to reset its
/// machine jumps there in real mode; Debian's does on hardware-reduced ACPI, as it expects EFI then.
pub(super) const AT_RESET: [u8; 9] = {
    let [low, high] = RESET.to_le_bytes();
    [
        0xb0,
        RESET_VALUE, // mov al, 1
        0xba,
        low,
        high, // mov dx, RESET
        0xee, // out dx, al
        0xf4, // hlt
        0xeb,
        0xfd, // jmp to the hlt
    ]
};

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

    #[test]
    fn a_keyboard_controller_takes_commands_and_knows_one() {
        let (resets, reset) = channel();
        let controller = KeyboardController::new(move || resets.send(()).unwrap());
        let mut status = [0xff];
        controller.read(0, &mut status);
        assert_eq!(status, [0]);
        for data in [&[0xd1][..], &[PULSE_RESET, 0], &[]] {
            controller.write(0, data);
        }
        assert!(reset.try_recv().is_err());
        controller.write(0, &[PULSE_RESET]);
        assert_eq!(reset.try_recv(), Ok(()));
    }
}
