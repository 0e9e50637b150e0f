//! `mvm doctor`: whether this host has what mvm needs, and what to do where it has not.

mod checks;

use serde::Serialize;

use self::checks::{Check, Verdict};
use super::output::{print, print_line};
use super::{Context, Failure};

/// Check this host: each thing that mvm needs, and the remedy where it is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 mvm works here, perhaps slowly; 1 it does not.")]
pub struct Args {
    /// As one JSON array
    #[arg(long)]
    json: bool,
}

/// A check as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    number: usize,
    name: &'a str,
    verdict: &'a str,
    words: &'a str,
}

pub async fn run(context: Context, args: Args) -> Result<(), Failure> {
    // Programs are started, and a machine.
    let checks = tokio::task::spawn_blocking(move || checks::all(&context)).await?;
    if args.json {
        print_line(serde_json::to_string(&rows(&checks))?)?;
    } else {
        print(table(&checks))?;
    }
    if checks.iter().any(|check| check.verdict == Verdict::Fails) { Err(Failure::Status(1)) } else { Ok(()) }
}

fn rows(checks: &[Check]) -> Vec<Row<'_>> {
    let numbered = (1..).zip(checks);
    numbered
        .map(|(number, check)| Row {
            number,
            name: check.name,
            verdict: check.verdict.as_str(),
            words: &check.words,
        })
        .collect()
}

fn table(checks: &[Check]) -> String {
    let line =
        |row: Row<'_>| format!("{:>2}  {:<5}  {:<12}  {}\n", row.number, row.verdict, row.name, row.words);
    rows(checks).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_number_and_a_line() {
        let check = |name, verdict, words: &str| Check { name, verdict, words: words.to_owned() };
        let checks = [
            check("host", Verdict::Fine, "Linux on x86_64"),
            check("kvm", Verdict::Slow, "it is not there; do this"),
        ];
        assert_eq!(
            table(&checks),
            " 1  ok     host          Linux on x86_64\n 2  slow   kvm           it is not there; do this\n"
        );
        assert_eq!(
            serde_json::to_value(rows(&checks)).unwrap()[1],
            serde_json::json!({"number": 2, "name": "kvm", "verdict": "slow", "words": "it is not there; do this"})
        );
    }
}
