//! The words of the kernel command line that are mvm's own.

use std::net::Ipv4Addr;
use std::str::FromStr;

use protocol::kernel_args::{CLOCK, NET};

/// What the supervisor says by `mvm.net`: the address of eth0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkWord {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) dns: Ipv4Addr,
}

/// Why a word of ours on the kernel command line cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("the kernel argument {CLOCK}={0} is not a number of seconds")]
    Clock(String),
    #[error("the kernel argument {NET}={word} does not have the form ADDRESS/PREFIX,GATEWAY,DNS: {what}")]
    Network { word: String, what: &'static str },
}

/// Our words, each parsed where it stands, so that a bad one stops only what needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelArgs {
    pub(crate) clock: Option<Result<u64, Error>>,
    pub(crate) network: Option<Result<NetworkWord, Error>>,
}

impl KernelArgs {
    /// Parses `/proc/cmdline`. Of a word given twice the last counts, as the kernel has it for its own.
    pub(crate) fn parse(cmdline: &str) -> Self {
        let mut args = Self::default();
        for (key, value) in cmdline.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            if key == CLOCK {
                args.clock = Some(value.parse().map_err(|_| Error::Clock(value.to_owned())));
            } else if key == NET {
                args.network = Some(value.parse());
            }
        }
        args
    }
}

impl FromStr for NetworkWord {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let bad = |what| Error::Network { word: word.to_owned(), what };
        let mut parts = word.split(',');
        let (Some(address), Some(gateway), Some(dns), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("three parts separated by commas are needed"));
        };
        let (address, prefix) = address.split_once('/').ok_or(bad("the address has no /PREFIX"))?;
        let prefix: u8 = prefix.parse().map_err(|_| bad("the prefix is not a number"))?;
        if !(1..=31).contains(&prefix) {
            return Err(bad("the prefix is not between 1 and 31"));
        }
        Ok(Self {
            address: address.parse().map_err(|_| bad("the address is not an IPv4 address"))?,
            prefix,
            gateway: gateway.parse().map_err(|_| bad("the gateway is not an IPv4 address"))?,
            dns: dns.parse().map_err(|_| bad("the DNS server is not an IPv4 address"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_words_are_read_among_others() {
        let args =
            KernelArgs::parse("quiet mvm.clock=1700000000 mvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3 ro\n");
        assert_eq!(args.clock, Some(Ok(1_700_000_000)));
        let network = args.network.unwrap().unwrap();
        assert_eq!(network.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((network.prefix, network.gateway), (24, Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(network.dns, Ipv4Addr::new(10, 0, 2, 3));
    }

    #[test]
    fn absent_words_are_none() {
        assert_eq!(KernelArgs::parse("quiet mvm.clockwork=1"), KernelArgs::default());
    }

    #[test]
    fn a_bad_word_says_what_is_wrong_with_it() {
        let text = |word: &str| word.parse::<NetworkWord>().unwrap_err().to_string();
        let form = "does not have the form ADDRESS/PREFIX,GATEWAY,DNS:";
        assert_eq!(
            text("x"),
            format!("the kernel argument mvm.net=x {form} three parts separated by commas are needed")
        );
        assert!(text("10.0.0.2,10.0.0.1,10.0.0.1").ends_with("the address has no /PREFIX"));
        assert!(text("10.0.0.2/33,10.0.0.1,10.0.0.1").ends_with("the prefix is not between 1 and 31"));
        assert!(text("10.0.0.2/24,gw,10.0.0.1").ends_with("the gateway is not an IPv4 address"));
        let clock = KernelArgs::parse("mvm.clock=noon").clock.unwrap().unwrap_err();
        assert_eq!(clock.to_string(), "the kernel argument mvm.clock=noon is not a number of seconds");
    }
}
