//! What the guest does wrong, class by class.

use super::driver::{ACKNOWLEDGE, CONFIG, Driver, INDIRECT, NEXT, NOTIFY, QUEUES, SIZE, WRITE};
use super::random::Random;
use super::{Access, BALLOON, DEVICE_SIZE, Machine};

/// One thing that a guest does wrong.
struct Class<M> {
    name: &'static str,
    attack: fn(&mut Driver<M>, &mut Random),
    /// Whether a device that is used so writes where nobody can say.
    is_blind: bool,
}

impl<M: Machine> Class<M> {
    const ALL: [Self; 11] = [
        Self::new("registers of all kinds and widths", registers),
        Self::new("configuration spaces", configuration),
        Self::new("ports", ports),
        Self::new("queues that lie wrong", crooked_queues),
        Self::new("cyclic descriptors", |driver, random| chains(driver, random, cyclic)),
        Self::new("overlapping descriptors", |driver, random| chains(driver, random, overlapping)).blind(),
        Self::new("huge lengths", |driver, random| chains(driver, random, huge)),
        Self::new("wrong tables of descriptors", |driver, random| chains(driver, random, indirect)),
        Self::new("garbage in rings", garbage).blind(),
        Self::new("requests that are almost right", |driver, random| chains(driver, random, plausible)),
        Self::new("endless kicks and acknowledgements", kicks),
    ];

    const fn new(name: &'static str, attack: fn(&mut Driver<M>, &mut Random)) -> Self {
        Self { name, attack, is_blind: false }
    }

    const fn blind(self) -> Self {
        Self { is_blind: true, ..self }
    }
}

/// Does one thing wrong, and says of which class it is.
pub(super) fn attack<M: Machine>(driver: &mut Driver<M>, random: &mut Random) -> &'static str {
    loop {
        let class = &Class::ALL[random.below(Class::<M>::ALL.len() as u64) as usize];
        if driver.layout.may_harm_itself || !class.is_blind {
            (class.attack)(driver, random);
            return class.name;
        }
    }
}

fn device<M>(driver: &Driver<M>, random: &mut Random) -> u64 {
    random.below(driver.layout.count)
}

fn registers<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let at = driver.address(random.below(driver.layout.count + 1)) + random.below(DEVICE_SIZE);
    let width = random.one_of(&[1, 2, 4, 8]);
    if random.below(2) == 0 {
        driver.machine.access(Access::Read(at, width));
    } else {
        let value = random.number().to_le_bytes();
        driver.machine.access(Access::Write(at, value[..width].to_vec()));
    }
}

fn configuration<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let at = driver.address(device(driver, random)) + CONFIG + random.below(80);
    let width = random.one_of(&[1, 2, 3, 4, 8]);
    driver.machine.access(Access::Read(at, width));
    driver.machine.access(Access::Write(at, random.number().to_le_bytes()[..width].to_vec()));
}

/// All but those that end the machine.
fn ports<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let port = random.one_of(&[0x3f8, 0x3f9, 0x3fa, 0x3fc, 0x3ff, 0x601, 0x60, 0xcf8, 0xfff0]);
    let width = random.one_of(&[1, 2, 4]);
    driver.machine.access(Access::PortRead(port, width));
    driver.machine.access(Access::PortWrite(port, random.number().to_le_bytes()[..width].to_vec()));
}

fn crooked_queues<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let device = device(driver, random);
    let size = random.one_of(&[0, 3, 16, 256, 0x8000, 0xffff]);
    let end = driver.layout.end;
    driver.set_up(device, size, |random, right| match random.below(5) {
        0 => right + 1,
        1 => end - 8,
        2 => random.number(),
        3 => u64::MAX - 15,
        _ => right,
    });
    driver.kick(device, random.below(QUEUES));
    driver.break_off(device);
}

/// Writes descriptors into the queues of a device that is set up, makes them available, and kicks.
fn chains<M: Machine>(
    driver: &mut Driver<M>,
    random: &mut Random,
    fill: fn(&mut Driver<M>, &mut Random, u64),
) {
    let device = device(driver, random);
    // The pages that it is told to give away may be anybody's.
    if device == BALLOON && !driver.layout.may_harm_itself {
        return;
    }
    if random.below(4) == 0 || !driver.is_up(device) {
        driver.set_up(device, SIZE, |_, right| right);
    }
    let queue = random.below(QUEUES);
    let place = driver.area(device, queue);
    fill(driver, random, place);
    for _ in 0..=random.below(4) {
        driver.offer(device, queue, random.below(u64::from(SIZE)) as u16);
    }
    driver.kick(device, queue);
}

fn cyclic<M: Machine>(driver: &mut Driver<M>, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let next = random.below(u64::from(SIZE)) as u16;
        let flags = NEXT | random.one_of(&[0, WRITE]);
        driver.descriptor(place, number, (place + 0x3000, 64), flags, next);
    }
}

/// With each other, and with the rings themselves.
fn overlapping<M: Machine>(driver: &mut Driver<M>, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let more = if number + 1 < SIZE { NEXT } else { 0 };
        let write = if number < 2 { 0 } else { WRITE };
        driver.descriptor(place, number, (place + random.below(0x3000), 0x2000), more | write, number + 1);
    }
}

fn huge<M: Machine>(driver: &mut Driver<M>, random: &mut Random, place: u64) {
    let own = driver.layout.own.clone();
    let size = own.end - own.start;
    for number in 0..SIZE {
        let more = if number + 1 < SIZE { NEXT } else { 0 };
        let write = if number < random.below(3) as u16 { 0 } else { WRITE };
        let length = random.one_of(&[u32::MAX, 1 << 31, size as u32 / 2, size as u32, 0]);
        let start = random.one_of(&[
            own.start,
            place,
            own.start + size / 2,
            driver.layout.end - 1,
            u64::MAX - 1,
            driver.layout.devices,
        ]);
        driver.descriptor(place, number, (start, length), more | write, number + 1);
    }
    // The longest that is right.
    let half = (own.start + size / 4, size as u32 / 2);
    driver.descriptor(place, 0, half, WRITE | NEXT, 1);
    driver.descriptor(place, 1, half, WRITE, 0);
}

/// Tables inside tables, of no whole number of entries, empty, outside, and of themselves.
fn indirect<M: Machine>(driver: &mut Driver<M>, random: &mut Random, place: u64) {
    for number in 0..SIZE {
        let other =
            driver.buffer(u64::from(number) / QUEUES % driver.layout.count, u64::from(number) % QUEUES);
        let start = random.one_of(&[place, place + 0x3000, driver.layout.end - 8, other]);
        let length = random.one_of(&[0, 1, 16, 17, 4096, u32::MAX]);
        driver.descriptor(
            place,
            number,
            (start, length),
            INDIRECT | random.one_of(&[0, NEXT, WRITE]),
            number,
        );
        driver.descriptor(place + 0x3000, number, (place, 64), random.one_of(&[0, NEXT, INDIRECT]), number);
    }
}

fn garbage<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let device = device(driver, random);
    if !driver.is_up(device) {
        driver.set_up(device, SIZE, |_, right| right);
    }
    let queue = random.below(QUEUES);
    for _ in 0..64 {
        driver.machine.put(driver.area(device, queue) + random.below(0x3000), &random.number().to_le_bytes());
    }
    driver.kick(device, queue);
}

/// Headers as a disk, a card, a balloon and a vsock know them, with one of their fields wrong.
fn plausible<M: Machine>(driver: &mut Driver<M>, random: &mut Random, place: u64) {
    let buffer = place + 0x3000;
    for field in 0..8 {
        let value = random.one_of(&[0_u32, 1, 2, 3, 4, 11, 13, 64, 65536, u32::MAX]);
        driver.machine.put(buffer + 4 * field, &value.to_le_bytes());
    }
    for head in (0..SIZE - 3).step_by(3) {
        let length = random.one_of(&[12, 16, 44, 60, 1514]);
        driver.descriptor(place, head, (buffer, length), NEXT, head + 1);
        driver.descriptor(
            place,
            head + 1,
            (buffer + 0x200, 512),
            NEXT | random.one_of(&[0, WRITE]),
            head + 2,
        );
        driver.descriptor(place, head + 2, (buffer + 0xf00, 1), WRITE, 0);
    }
}

fn kicks<M: Machine>(driver: &mut Driver<M>, random: &mut Random) {
    let at = driver.address(device(driver, random));
    for _ in 0..50 {
        driver.machine.access(Access::Write(at + NOTIFY, (random.below(4) as u32).to_le_bytes().to_vec()));
        driver.machine.access(Access::Write(at + ACKNOWLEDGE, 3_u32.to_le_bytes().to_vec()));
    }
}
