//! A real browser, without a screen.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::run;

/// Answers of a script are found behind this in the browser's log.
const MARK: &str = "mvm-answer:";

/// Opens a page in Chromium at a laptop's width, runs a script in it, and returns what that returns. An error on the page's
/// console is a failure.
pub fn browse(page: &Path, script: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory for a page");
    let text = std::fs::read_to_string(page).expect("the page can be read");
    let asking =
        format!("<script>console.log('{MARK}' + JSON.stringify((() => {{ {script} }})()))</script></body>");
    let asked = directory.path().join("page.html");
    std::fs::write(&asked, text.replace("</body>", &asking)).expect("the page is written");
    let mut command = chromium(directory.path());
    command.args(["--enable-logging=stderr", "--dump-dom"]).arg(&asked);
    let outcome = run(&mut command);
    assert_eq!(outcome.status, 0, "{outcome}");
    let console = outcome.stderr.lines().filter(|line| line.contains(":CONSOLE"));
    let (answers, rest): (Vec<_>, Vec<_>) = console.partition(|line| line.contains(MARK));
    assert!(rest.is_empty(), "the page's console has {rest:?}");
    let answer = answers.first().and_then(|line| line.split_once(MARK)).map(|(_, answer)| answer);
    let answer = answer.unwrap_or_else(|| panic!("the script did not answer: {outcome}"));
    // The log puts it in quotes and says where it comes from.
    let answer = answer.rsplit_once("\", source:").map_or(answer, |(answer, _)| answer);
    serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn chromium(profile: &Path) -> Command {
    let mut command = Command::new("chromium");
    // Root may not have its sandbox, and containers have a small /dev/shm.
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
    ]);
    command.args(["--window-size=1280,800", "--virtual-time-budget=2000"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command
}
