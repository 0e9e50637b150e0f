//! What images say of their containers, by the label `org.mobyproject.config`: anybody's.
//!
//! Input: the label.

use images::fuzzing::label;

use crate::root;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let label_of = |text: &str| label("a label", text);
    let said = match label_of(text) {
        Ok(said) => said,
        Err(problems) => {
            let message = problems.to_string();
            assert!(message.contains(" at a label:"), "{message}");
            assert!(message.len() < 60_000, "{} bytes of {}", message.len(), text.len());
            return;
        }
    };
    let again = said.text().unwrap();
    assert_eq!(label_of(&again).unwrap_or_else(|error| panic!("{error}")), said);
    if let Ok(made) = said.container() {
        root::check(&made);
    }
}
