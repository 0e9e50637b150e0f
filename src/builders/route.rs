//! Which node builds for a platform: one that was told to, else one whose processor runs it, else one that emulates it.

use std::fmt;

use thiserror::Error;

use super::Node;
use crate::builder::Known;
use crate::registry::Platform;

/// What a node says of itself, or why it does not.
#[derive(Debug)]
pub struct Offer<'a> {
    pub node: &'a Node,
    pub known: Result<Vec<Known>, String>,
}

/// No node builds for a platform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct NoNode {
    platform: Option<Platform>,
    reasons: Vec<(String, String)>,
}

impl fmt::Display for NoNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.platform {
            Some(platform) => write!(f, "no node of the builder can build for {platform}")?,
            None => f.write_str("no node of the builder answers")?,
        }
        self.reasons.iter().try_for_each(|(node, reason)| write!(f, "\n  {node}: {reason}"))
    }
}

/// How well a node suits; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suits {
    Told,
    Native,
    Emulated,
}

impl Offer<'_> {
    fn suits(&self, wanted: &Platform) -> Result<Suits, String> {
        let known = self.known.as_ref().map_err(Clone::clone)?;
        if self.node.platforms.iter().any(|told| told.covers(wanted)) {
            return Ok(Suits::Told);
        }
        let mut candidates = known.iter().filter(|known| known.platform.covers(wanted));
        let mut reason = "it has no emulator for it".to_owned();
        let suits = candidates.by_ref().filter_map(|known| match (&known.broken, &known.emulator) {
            (Some(broken), _) => {
                reason.clone_from(broken);
                None
            }
            (None, None) => Some(Suits::Native),
            (None, Some(_)) => Some(Suits::Emulated),
        });
        suits.min().ok_or(reason)
    }
}

/// For each platform the place of its node in `offers`. Of nodes that suit as well, the first.
pub fn route(offers: &[Offer<'_>], wanted: &[Platform]) -> Result<Vec<usize>, NoNode> {
    let best = |platform: &Platform| {
        let suits: Vec<_> = offers.iter().map(|offer| offer.suits(platform)).collect();
        let best = (0..).zip(&suits).filter_map(|(place, suits)| Some((suits.as_ref().ok()?, place))).min();
        best.map(|(_, place)| place).ok_or_else(|| NoNode {
            platform: Some(platform.clone()),
            reasons: reasons(offers, suits.into_iter().map(Result::err)),
        })
    };
    if wanted.is_empty() {
        let first = offers.iter().position(|offer| offer.known.is_ok());
        let why = || offers.iter().map(|offer| offer.known.as_ref().err().cloned());
        return first
            .map(|first| vec![first])
            .ok_or_else(|| NoNode { platform: None, reasons: reasons(offers, why()) });
    }
    wanted.iter().map(best).collect()
}

fn reasons(offers: &[Offer<'_>], why: impl Iterator<Item = Option<String>>) -> Vec<(String, String)> {
    offers.iter().zip(why).filter_map(|(offer, why)| Some((offer.node.name.to_string(), why?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builders::{Address, Builder};

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn node(name: &str, told: &[&str]) -> Node {
        let mut builder = Builder::of(name.parse().unwrap(), Address::Instance(name.parse().unwrap()));
        builder.nodes[0].platforms = told.iter().map(|told| platform(told)).collect();
        builder.nodes.remove(0)
    }

    fn known(native: &[&str], emulated: &[&str]) -> Vec<Known> {
        let of = |text: &&str, emulator: Option<&str>| Known {
            platform: platform(text),
            broken: None,
            emulator: emulator.map(str::to_owned),
        };
        let emulated = emulated.iter().map(|text| of(text, Some("qemu")));
        native.iter().map(|text| of(text, None)).chain(emulated).collect()
    }

    #[test]
    fn told_before_native_before_emulated_before_none() {
        let [pc, arm, told] = [node("pc", &[]), node("arm", &[]), node("told", &["linux/riscv64"])];
        let offers = [
            Offer { node: &pc, known: Ok(known(&["linux/amd64"], &["linux/arm64", "linux/riscv64"])) },
            Offer { node: &arm, known: Ok(known(&["linux/arm64"], &["linux/amd64"])) },
            Offer { node: &told, known: Ok(known(&["linux/amd64"], &[])) },
        ];
        let wanted = ["linux/amd64", "linux/arm64", "linux/riscv64", "linux/amd64/v2"].map(platform);
        assert_eq!(route(&offers, &wanted).unwrap(), [0, 1, 2, 0]);
        assert_eq!(route(&offers, &[]).unwrap(), [0]);
        assert_eq!(
            route(&offers, &[platform("linux/s390x")]).unwrap_err().to_string(),
            "no node of the builder can build for linux/s390x\n  pc: it has no emulator for it\n  \
             arm: it has no emulator for it\n  told: it has no emulator for it"
        );
    }

    #[test]
    fn who_does_not_answer_builds_nothing() {
        let [gone, there] = [node("gone", &["linux/arm64"]), node("there", &[])];
        let silent = || Err("nobody answers".to_owned());
        let offers = [
            Offer { node: &gone, known: silent() },
            Offer { node: &there, known: Ok(known(&["linux/amd64"], &["linux/arm64"])) },
        ];
        assert_eq!(route(&offers, &[platform("linux/arm64")]).unwrap(), [1]);
        assert_eq!(route(&offers, &[]).unwrap(), [1]);
        let error = route(&offers[..1], &[platform("linux/arm64")]).unwrap_err().to_string();
        assert!(error.ends_with("for linux/arm64\n  gone: nobody answers"), "{error}");
        let error = route(&offers[..1], &[]).unwrap_err().to_string();
        assert_eq!(error, "no node of the builder answers\n  gone: nobody answers");
    }

    #[test]
    fn what_is_broken_says_why() {
        let node = node("pc", &[]);
        let mut known = known(&[], &["linux/arm64"]);
        known[0].broken = Some("its self-test failed".to_owned());
        let error = route(&[Offer { node: &node, known: Ok(known) }], &[platform("linux/arm64")]);
        assert!(error.unwrap_err().to_string().ends_with("pc: its self-test failed"));
    }
}
