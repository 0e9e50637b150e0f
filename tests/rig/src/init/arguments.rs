//! `rig.NAME=VALUE` on the kernel's command line.

use crate::Outcome;

#[derive(Debug)]
pub(crate) struct Arguments(String);

impl Arguments {
    pub(crate) fn of_this_kernel() -> Outcome<Self> {
        Ok(Self(std::fs::read_to_string("/proc/cmdline")?))
    }

    pub(crate) fn text(&self, name: &str) -> Outcome<&str> {
        let value = |word: &'_ str| -> Option<usize> {
            let rest = word.strip_prefix("rig.")?.strip_prefix(name)?;
            rest.starts_with('=').then(|| word.len() - rest.len() + 1)
        };
        let found = self.0.split_whitespace().find_map(|word| Some(&word[value(word)?..]));
        found.ok_or_else(|| format!("rig.{name}= is not on the kernel's command line").into())
    }

    pub(crate) fn number(&self, name: &str) -> Outcome<u64> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("rig.{name}={text} is no number").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let arguments = Arguments("quiet rig.doing=no rig.do=write rig.at=4294967296\n".to_owned());
        assert_eq!(arguments.text("do").unwrap(), "write");
        assert_eq!(arguments.number("at").unwrap(), 1 << 32);
        let error = arguments.number("do").unwrap_err().to_string();
        assert_eq!(error, "rig.do=write is no number");
        let error = arguments.text("seed").unwrap_err().to_string();
        assert_eq!(error, "rig.seed= is not on the kernel's command line");
    }
}
