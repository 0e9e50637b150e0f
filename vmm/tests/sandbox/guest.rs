//! A guest of a few bytes that drives its devices: a "kernel" whose image has the queues filled already, and what it does
//! with the registers, as code of a processor or as a script.

use vmm::hypervisor::fake::Scripted;

/// Where the image lies, and its entry.
const BASE: u32 = 0x10_0000;
const DEVICES: u32 = 0xd000_0000;
const CONSOLE: u32 = 0;
const ENTROPY: u32 = 1;
const DISK: u32 = 2;
/// From the image's start: the pages behind the code. Each device has one for its queue and one for its buffers.
const PAGE: usize = 0x1000;
const USED: usize = 0x800;
const AVAILABLE: usize = 0x400;
const SECTOR: usize = 512;

/// What the disk is asked for, in this order; see [`Image::disk`].
pub(crate) const REQUESTS: usize = 8;
pub(crate) const SERIAL: u16 = 0x3f8;

// Descriptors' flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The image while it is filled.
pub(crate) struct Image {
    bytes: Vec<u8>,
    /// Where each status of the disk will be.
    statuses: Vec<u32>,
}

impl Image {
    /// Queues of console, entropy device and disk with requests in them.
    pub(crate) fn new() -> Self {
        let mut image = Self { bytes: vec![0; 16 * PAGE], statuses: Vec::new() };
        image.queue(CONSOLE, &[&[(b"printed\n".to_vec(), 0)]]);
        image.queue(ENTROPY, &[&[(vec![0; 64], WRITE)]]);
        image.disk();
        image
    }

    /// Writes, reads, makes durable, discards, writes zeroes in both ways, asks for the name, and writes a mark.
    fn disk(&mut self) {
        let header =
            |kind: u32, sector: u64| ([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat(), 0);
        let range = |sector: u64, flags: u32| {
            ([&sector.to_le_bytes()[..], &8_u32.to_le_bytes(), &flags.to_le_bytes()].concat(), 0)
        };
        let status = || (vec![0xff], WRITE);
        let requests = [
            vec![header(1, 0), (vec![b'a'; SECTOR], 0), status()],
            vec![header(0, 0), (vec![0; SECTOR], WRITE), status()],
            vec![header(4, 0), status()],
            vec![header(11, 0), range(8, 0), status()],
            vec![header(13, 0), range(16, 0), status()],
            vec![header(13, 0), range(24, 1), status()],
            vec![header(8, 0), (vec![0; 20], WRITE), status()],
            vec![header(1, 40), (vec![b'z'; SECTOR], 0), status()],
        ];
        assert_eq!(requests.len(), REQUESTS);
        let requests: Vec<&[_]> = requests.iter().map(Vec::as_slice).collect();
        self.statuses = self.queue(DISK, &requests);
    }

    /// Fills a device's pages; where the last buffer of each request is.
    fn queue(&mut self, device: u32, requests: &[&[(Vec<u8>, u16)]]) -> Vec<u32> {
        let page = queue_page(device);
        let mut buffer = page + PAGE;
        let mut descriptor = 0_u16;
        let mut last = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            self.put(page + AVAILABLE + 4 + 2 * number, &descriptor.to_le_bytes());
            for (index, (bytes, flags)) in request.iter().enumerate() {
                let flags = flags | if index + 1 < request.len() { NEXT } else { 0 };
                let entry = [
                    &u64::from(address(buffer)).to_le_bytes()[..],
                    &(bytes.len() as u32).to_le_bytes(),
                    &flags.to_le_bytes(),
                    &(descriptor + 1).to_le_bytes(),
                ];
                self.put(page + 16 * usize::from(descriptor), &entry.concat());
                self.put(buffer, bytes);
                if index + 1 == request.len() {
                    last.push(address(buffer));
                }
                buffer += bytes.len().next_multiple_of(16);
                descriptor += 1;
            }
        }
        self.put(page + AVAILABLE + 2, &(requests.len() as u16).to_le_bytes());
        last
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// As a kernel's file: an ELF of one segment, entered at its start, and Xen's note.
    pub(crate) fn into_elf(self) -> Vec<u8> {
        let mut elf = vec![0; PAGE];
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(18, &62_u16.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &2_u16.to_le_bytes());
        let mut header = |at: usize, kind: u32, offset: u64, address: u64, size: u64| {
            put(at, &kind.to_le_bytes());
            for (place, value) in [(8, offset), (24, address), (32, size), (40, size)] {
                put(at + place, &value.to_le_bytes());
            }
        };
        header(64, 1, PAGE as u64, BASE.into(), self.bytes.len() as u64);
        header(120, 4, 0x200, 0, 20);
        put(0x200, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        put(0x20c, b"Xen\0");
        put(0x210, &BASE.to_le_bytes());
        elf.extend(self.bytes);
        elf
    }

    /// The code of a processor: sets the devices up, waits until each has done all that it is asked for, says the disk's
    /// answers on the serial port, and powers off.
    pub(crate) fn with_code(mut self) -> Self {
        let mut code = Vec::new();
        for (address, value) in set_up() {
            // mov dword [address], value
            code.extend([&[0xc7, 0x05][..], &address.to_le_bytes(), &value.to_le_bytes()].concat());
        }
        for (device, done) in [(CONSOLE, 1), (ENTROPY, 1), (DISK, REQUESTS as u8)] {
            let index = address(queue_page(device) + USED + 2);
            // cmp byte [index], done; jne to the line before
            code.extend([&[0x80, 0x3d][..], &index.to_le_bytes(), &[done, 0x75, 0xf7]].concat());
        }
        // mov dx, the serial port's interrupts; mov al, the transmitter's; out dx, al
        code.extend([0x66, 0xba, 0xf9, 0x03, 0xb0, 0x02, 0xee]);
        for status in &self.statuses {
            // mov al, [status]; add al, '0'; mov dx, the serial port; out dx, al
            code.extend(
                [&[0xa0][..], &status.to_le_bytes(), &[0x04, b'0', 0x66, 0xba, 0xf8, 0x03, 0xee]].concat(),
            );
        }
        // mov dx, ACPI's sleep control; mov al, power off; out dx, al; jmp to itself
        code.extend([0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xeb, 0xfe]);
        self.put(0, &code);
        self
    }

    /// A guest that ends by a triple fault: an instruction that is none, and nobody to handle it.
    pub(crate) fn with_fault(mut self) -> Self {
        self.put(0, &[0x0f, 0x0b]);
        self
    }

    /// A guest that never does anything.
    pub(crate) fn with_loop(mut self) -> Self {
        self.put(0, &[0xeb, 0xfe]);
        self
    }
}

/// The same for a hypervisor that plays scripts, which waits for nothing. The serial port comes first, since it and the
/// console print to one place.
pub(crate) fn script() -> Vec<Scripted> {
    let write =
        |(address, value): (u32, u32)| Scripted::MmioWrite(address.into(), value.to_le_bytes().to_vec());
    let mut script = vec![Scripted::PortWrite(SERIAL + 1, vec![2])];
    script.extend(b"said".iter().map(|byte| Scripted::PortWrite(SERIAL, vec![*byte])));
    script.extend(set_up().into_iter().map(write));
    script
}

/// Interrupt lines of the devices that the guest drives.
pub(crate) const LINES: [u32; 3] = [8 + CONSOLE, 8 + ENTROPY, 8 + DISK];

/// Writes to registers that set all devices up and kick them (virtio 1.3, 4.2.2 and 3.1.1). The console comes last: it
/// and the entropy device have one thread.
fn set_up() -> Vec<(u32, u32)> {
    // Flush, discard and write zeroes.
    let features_of_disk = 1 << 9 | 1 << 13 | 1 << 14;
    [(DISK, 0, features_of_disk), (ENTROPY, 0, 0), (CONSOLE, 1, 0)]
        .into_iter()
        .flat_map(|(device, queue, features)| {
            let page = queue_page(device);
            let registers = [
                (0x070, 0),
                (0x070, 1),
                (0x070, 3),
                (0x024, 1),
                (0x020, 1),
                (0x024, 0),
                (0x020, features),
                (0x070, 11),
                (0x030, queue),
                (0x038, 64),
                (0x080, address(page)),
                (0x090, address(page + AVAILABLE)),
                (0x0a0, address(page + USED)),
                (0x044, 1),
                (0x070, 15),
                (0x050, queue),
            ];
            registers.map(|(register, value)| (DEVICES + device * 0x1000 + register, value))
        })
        .collect()
}

fn queue_page(device: u32) -> usize {
    PAGE * (2 + 4 * device as usize)
}

fn address(offset: usize) -> u32 {
    BASE + offset as u32
}
