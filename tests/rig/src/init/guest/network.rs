//! The guest's network: `rig.mib` MiB from or to the server at `rig.peer`, in one stream.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType, socket};

use crate::Outcome;
use crate::arguments::Arguments;

/// What the network process knows the guest as (`src/supervisor/passt.rs`).
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const CARD: &[u8] = b"eth0";
const PIECE: usize = 128 * 1024;

pub(super) fn download(arguments: &Arguments) -> Outcome<()> {
    let mut stream = connected(arguments)?;
    let mut piece = vec![0; PIECE];
    println!("rig: begins");
    let mut left = arguments.number("mib")? << 20;
    while left > 0 {
        let count = stream.read(&mut piece)? as u64;
        left = left.checked_sub(count).filter(|_| count > 0).ok_or("the stream has another length")?;
    }
    println!("rig: ends");
    Ok(())
}

/// To the end of it, which the server answers with one byte.
pub(super) fn upload(arguments: &Arguments) -> Outcome<()> {
    let mut stream = connected(arguments)?;
    let piece = vec![0x5a; PIECE];
    println!("rig: begins");
    for _ in 0..(arguments.number("mib")? << 20) / PIECE as u64 {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    println!("rig: ends");
    Ok(())
}

fn connected(arguments: &Arguments) -> Outcome<TcpStream> {
    set_up().map_err(|error| format!("cannot set the network up: {error}"))?;
    Ok(TcpStream::connect(arguments.text("peer")?)?)
}

/// As netdevice(7) has it; that is less code than a netlink message.
fn set_up() -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: both are plain data, for which all bits zero are a value.
    let (mut card, mut route): (libc::ifreq, libc::rtentry) = unsafe { std::mem::zeroed() };
    for (to, from) in card.ifr_name.iter_mut().zip(CARD) {
        *to = from.cast_signed();
    }
    let mut order = |request: libc::Ioctl, set: &dyn Fn(&mut libc::ifreq)| {
        set(&mut card);
        // SAFETY: each of these requests reads one `ifreq`.
        done(unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut card) })
    };
    order(libc::SIOCSIFADDR, &|card| card.ifr_ifru.ifru_addr = address(ADDRESS))?;
    order(libc::SIOCSIFNETMASK, &|card| card.ifr_ifru.ifru_netmask = address(MASK))?;
    let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    order(libc::SIOCSIFFLAGS, &|card| card.ifr_ifru.ifru_flags = flags)?;
    (route.rt_dst, route.rt_genmask) = (address(Ipv4Addr::UNSPECIFIED), address(Ipv4Addr::UNSPECIFIED));
    route.rt_gateway = address(GATEWAY);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: this request reads one `rtentry`.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw mut route) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct sockaddr_in`, as what every kind of address is given as.
fn address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: plain data, for which all bits zero are a value.
    let mut general: libc::sockaddr = unsafe { std::mem::zeroed() };
    general.sa_family = AddressFamily::INET.as_raw();
    // Behind two bytes of port.
    for (to, from) in general.sa_data[2..].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    general
}
