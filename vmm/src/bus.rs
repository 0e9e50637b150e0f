//! Which device answers at an address. Made once, before the guest runs; then every vCPU reads it without a lock.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Registers of a device. Accesses come from every vCPU at once, of whatever length the guest chose.
pub(crate) trait Registers: Send + Sync {
    /// The guest reads at `offset`; what is not filled in it sees as it was: ones.
    fn read(&self, offset: u64, data: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
}

/// An address space: of memory, or of ports.
#[derive(Default, Clone)]
pub(crate) struct Bus {
    /// In the order of their addresses; they do not overlap.
    devices: Vec<(Range<u64>, Arc<dyn Registers>)>,
}

impl Bus {
    /// Puts a device at a range that nothing else has. The board's layout sees to that.
    pub(crate) fn insert(&mut self, range: Range<u64>, device: Arc<dyn Registers>) {
        let at = self.devices.partition_point(|(other, _)| other.start < range.start);
        self.devices.insert(at, (range, device));
    }

    /// Nobody answers: the guest sees ones, as on a bus with nothing on it.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.read(offset, data);
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    /// The device that has all of the bytes.
    fn find(&self, address: u64, length: usize) -> Option<(u64, &dyn Registers)> {
        let after = self.devices.partition_point(|(range, _)| range.start <= address);
        let (range, device) = self.devices.get(after.checked_sub(1)?)?;
        let end = address.checked_add(u64::try_from(length).ok()?)?;
        (end <= range.end).then(|| (address.saturating_sub(range.start), &**device))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.devices.iter().map(|(range, _)| range)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Remembers what it was written, and answers with it.
    #[derive(Default)]
    struct Cell(Mutex<(u64, Vec<u8>)>);

    impl Registers for Cell {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&self, offset: u64, data: &[u8]) {
            *self.0.lock().unwrap() = (offset, data.to_vec());
        }
    }

    fn bus() -> (Bus, Arc<Cell>, Arc<Cell>) {
        let (low, high) = (Arc::new(Cell::default()), Arc::new(Cell::default()));
        let mut bus = Bus::default();
        bus.insert(0x2000..0x3000, high.clone());
        bus.insert(0x1000..0x1100, low.clone());
        (bus, low, high)
    }

    #[test]
    fn an_access_goes_to_the_device_at_its_address() {
        let (bus, low, high) = bus();
        bus.write(0x10ff, &[1]);
        bus.write(0x2000, &[2, 3, 4, 5]);
        assert_eq!(*low.0.lock().unwrap(), (0xff, vec![1]));
        assert_eq!(*high.0.lock().unwrap(), (0, vec![2, 3, 4, 5]));
        let mut data = [0; 2];
        bus.read(0x2004, &mut data);
        assert_eq!(data, [4, 4]);
    }

    #[test]
    fn accesses_beside_every_device_or_over_an_end_read_ones() {
        let (bus, low, _) = bus();
        for (address, length) in [(0, 4), (0xfff, 1), (0x10ff, 2), (0x1100, 1), (0x3000, 8), (u64::MAX, 4)] {
            let mut data = vec![0; length];
            bus.read(address, &mut data);
            assert_eq!(data, vec![0xff; length], "{address:#x}");
            bus.write(address, &data);
        }
        assert!(low.0.lock().unwrap().1.is_empty(), "nothing was written");
    }
}
