//! Sizes as the user writes them.

/// "4096", "4096M", "4G", "4GiB": MiB of memory.
pub(crate) fn memory_mib(text: &str) -> Result<u32, String> {
    parse(text, "M", 1).and_then(|mib| u32::try_from(mib).map_err(|_| too_large(text)))
}

/// "64", "64G", "1T": GiB of disk.
pub(super) fn disk_gib(text: &str) -> Result<u32, String> {
    let mib = parse(text, "G", 1024)?;
    if mib % 1024 != 0 {
        return Err(format!("{text} is no whole number of GiB"));
    }
    u32::try_from(mib / 1024).map_err(|_| too_large(text))
}

/// The size in MiB; a number without a unit counts `bare` of them.
fn parse(text: &str, unit: &str, bare: u64) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let factor = match suffix.trim().to_ascii_uppercase().as_str() {
        "" => bare,
        "M" | "MB" | "MIB" => 1,
        "G" | "GB" | "GIB" => 1024,
        "T" | "TB" | "TIB" => 1024 * 1024,
        _ => return Err(format!("{text} is no size: write a number and M, G or T, as in 8{unit}")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no size: it begins with no number"))?;
    number.checked_mul(factor).ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> String {
    format!("{text} is too large")
}

#[cfg(test)]
mod tests {
    use super::{disk_gib, memory_mib};

    #[test]
    fn sizes() {
        assert_eq!(memory_mib("4096"), Ok(4096));
        assert_eq!(memory_mib("4G"), Ok(4096));
        assert_eq!(memory_mib("4gib"), Ok(4096));
        assert_eq!(disk_gib("64"), Ok(64));
        assert_eq!(disk_gib("1T"), Ok(1024));
        assert_eq!(disk_gib("2048M"), Ok(2));
    }

    #[test]
    fn what_is_no_size_is_told() {
        assert_eq!(
            memory_mib("lots").unwrap_err(),
            "lots is no size: write a number and M, G or T, as in 8M"
        );
        assert_eq!(memory_mib("G").unwrap_err(), "G is no size: it begins with no number");
        assert_eq!(disk_gib("100M").unwrap_err(), "100M is no whole number of GiB");
        assert_eq!(disk_gib("99999999999T").unwrap_err(), "99999999999T is too large");
        assert_eq!(
            memory_mib("99999999999999999999G").unwrap_err(),
            "99999999999999999999G is no size: it begins with no number"
        );
    }
}
